package main

import (
	"errors"
	"strconv"
	"strings"
)

// wanted says what a flag takes, by the function of strconv that did not.
var wanted = map[string]string{
	"ParseBool":  "true or false",
	"ParseInt":   "a whole number",
	"Atoi":       "a whole number",
	"ParseUint":  "a whole number, not below 0",
	"ParseFloat": "a number",
}

// plainly is an error of a flag's value in words of people in place of those of strconv.
func plainly(err error) error {
	var number *strconv.NumError
	if !errors.As(err, &number) || wanted[number.Func] == "" {
		return err
	}
	words := "want " + wanted[number.Func]
	if errors.Is(number.Err, strconv.ErrRange) {
		words = "out of range: " + words
	}
	return errors.New(strings.Replace(err.Error(), number.Error(), words, 1))
}
