package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// clean returns s as text that takes as many cells as it seems to and says nothing to
// the terminal: whatever else is in it, is spelled as in a Go string.
func clean(s string) string {
	plain := true
	for _, r := range s {
		plain = plain && safe(r)
	}
	if plain {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case safe(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// safe reports whether a rune is shown as it is: one that is printed, by itself, and of
// which terminals agree how wide it is.
func safe(r rune) bool {
	switch {
	case r == utf8.RuneError, // which also stands for what is no UTF-8
		r >= 0x1f1e6 && r <= 0x1f1ff, // halves of flags
		r >= 0x1f3fb && r <= 0x1f3ff, // colours of skin
		unicode.In(r, unicode.Mn, unicode.Me, unicode.Mc):
		return false
	case r < unicode.MaxASCII:
		return r >= ' ' // DEL is MaxASCII
	}
	return unicode.IsPrint(r) && runeWidth(r) > 0
}

func runeWidth(r rune) int {
	if r >= ' ' && r < unicode.MaxASCII {
		return 1
	}
	return uniseg.StringWidth(string(r))
}

func width(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// fit cuts or fills clean text to a number of cells. A "~" says that something is cut.
func fit(s string, cells int, right bool) string {
	if cells <= 0 {
		return ""
	}
	have := width(s)
	if have > cells {
		have = 0
		for i, r := range s {
			if w := runeWidth(r); have+w > cells-1 {
				s = s[:i] + "~"
				have++
				break
			} else {
				have += w
			}
		}
	}
	fill := strings.Repeat(" ", cells-have)
	if right {
		return fill + s
	}
	return s + fill
}

// short writes a number in at most 7 cells.
func short(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a < 1e-3:
		return strconv.FormatFloat(v, 'g', 2, 64)
	case a < 10:
		return trim(strconv.FormatFloat(v, 'f', 2, 64))
	case a < 1000:
		return trim(strconv.FormatFloat(v, 'f', 1, 64))
	case a < 99999.5:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a < 1e15:
		return scale(v, 1000, "kMGT")
	}
	return strconv.FormatFloat(v, 'e', 1, 64)
}

func trim(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// scale writes a number with a letter for its size.
func scale(v, by float64, letters string) string {
	i := -1
	for i < len(letters)-1 && math.Abs(v) >= by*0.9995 {
		v /= by
		i++
	}
	if i < 0 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	digits := 1
	if math.Abs(v) >= 99.95 {
		digits = 0
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + letters[i:i+1]
}

// size writes a number of bytes, in units of 1024.
func size(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return scale(v, 1024, "KMGTPE")
}

// age writes a number of seconds.
func age(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	d := time.Duration(max(v, 0)) * time.Second
	switch s := int(d / time.Second); {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 60*60:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 24*60*60:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	default:
		return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
	}
}
