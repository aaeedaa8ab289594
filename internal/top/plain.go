package top

import (
	"bufio"
	"context"
	"io"
	"strings"
	"time"
)

// Once looks twice, an interval apart, for one look tells no rate.
func Once(ctx context.Context, s Source, interval time.Duration) (from, to *Look, err error) {
	if from, err = s.Look(ctx); err != nil {
		return nil, nil, err
	}
	select {
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-time.After(interval):
	}
	to, err = s.Look(ctx)
	return from, to, err
}

// Print writes a table for programs: all columns, always the same ones, each value one
// word and exact, the title above.
func (t *Table) Print(w io.Writer) error {
	rows := make([][]string, 0, len(t.Rows)+1)
	widths := make([]int, len(t.Columns))
	line := func(of func(i int, c Column) string) {
		row := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			row[i] = of(i, c)
			widths[i] = max(widths[i], width(row[i]))
		}
		rows = append(rows, row)
	}
	line(func(_ int, c Column) string { return c.Title })
	for _, r := range t.Rows {
		line(func(i int, c Column) string { return c.printed(r.Values[i]) })
	}
	b := bufio.NewWriter(w)
	for _, row := range rows {
		var text strings.Builder
		for i, c := range t.Columns {
			if i > 0 {
				text.WriteString("  ")
			}
			text.WriteString(fit(row[i], widths[i], !c.Text))
		}
		b.WriteString(strings.TrimRight(text.String(), " "))
		b.WriteByte('\n')
	}
	return b.Flush()
}
