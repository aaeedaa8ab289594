package top

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// place is one of the tables that a user can be at.
type place uint8

const (
	workers   place = iota
	families        // the views, between which Tab goes
	oneWorker       // by family
	oneFamily       // by worker
	places
)

// view returns the view that a place belongs to.
func (p place) view() place {
	if p == oneWorker || p == oneFamily {
		return p - oneWorker
	}
	return p
}

// State is what the user has chosen. Its zero value, but for Interval, is the beginning.
type State struct {
	Interval time.Duration
	Paused   bool

	at       place
	worker   string   // at oneWorker
	family   FamilyID // at oneFamily
	orders   [places]order
	filters  [places]string
	cursors  [places]cursor
	help     bool
	typing   bool   // a filter
	typed    string // of it
	lastRows []Row  // as they were rendered, which keys are about
	lastPage int    // rows that a screen has
	columns  []Column
}

// order is how a table is sorted.
type order struct {
	column  int
	reverse bool
}

// cursor is the row that is chosen. It stays with the row as the order changes, once the
// user has moved it; before, it is the first row.
type cursor struct {
	moved bool
	name  string
	kind  string // the row's type
	row   int
	top   int // the first row on the screen
}

// NewState returns the beginning: workers and families, those first that do most.
func NewState(interval time.Duration) *State {
	s := &State{Interval: interval}
	for p, title := range map[place]string{workers: "UPDATES/S", families: "RATE/S", oneWorker: "RATE/S", oneFamily: "RATE/S"} {
		t := s.table(p, nil, &Look{})
		s.orders[p].column, _ = t.Column(title)
	}
	return s
}

// table returns the table of a place.
func (s *State) table(p place, from, to *Look) Table {
	switch p {
	case families:
		return Families(from, to)
	case oneWorker:
		return ByFamily(from, to, s.worker)
	case oneFamily:
		return ByWorker(from, to, s.family)
	}
	return Workers(from, to)
}

// The keys that are not characters.
const (
	KeyUp        = "up"
	KeyDown      = "down"
	KeyLeft      = "left"
	KeyRight     = "right"
	KeyPageUp    = "pgup"
	KeyPageDown  = "pgdn"
	KeyHome      = "home"
	KeyEnd       = "end"
	KeyEnter     = "enter"
	KeyEsc       = "esc"
	KeyTab       = "tab"
	KeyBackspace = "backspace"
	KeyInterrupt = "ctrl-c"
	KeyRedraw    = "ctrl-l"
	KeyClear     = "ctrl-u"
)

// Press does what a key says and reports whether that is to quit. A key is one of the
// constants, or the character.
func (s *State) Press(key string) (quit bool) {
	if key == KeyInterrupt {
		return true
	}
	if s.typing {
		s.edit(key)
		return false
	}
	if s.help {
		s.help = false
		return key == "q"
	}
	switch key {
	case "q", "Q":
		return true
	case "?", "h":
		s.help = true
	case "p", " ":
		s.Paused = !s.Paused
	case "/":
		s.typing, s.typed = true, s.filters[s.at]
	case KeyTab:
		s.goTo(1 - s.at.view())
	case KeyEnter:
		s.open()
	case KeyEsc, KeyBackspace:
		if s.at != s.at.view() {
			s.goTo(s.at.view())
		} else {
			s.filters[s.at] = ""
		}
	case "<", KeyLeft:
		s.sort(-1)
	case ">", KeyRight:
		s.sort(1)
	case "r":
		s.orders[s.at].reverse = !s.orders[s.at].reverse
	case KeyUp, "k":
		s.move(-1)
	case KeyDown, "j":
		s.move(1)
	case KeyPageUp:
		s.move(-max(s.lastPage, 1))
	case KeyPageDown:
		s.move(max(s.lastPage, 1))
	case KeyHome, "g":
		s.move(-len(s.lastRows))
	case KeyEnd, "G":
		s.move(len(s.lastRows))
	default:
		if len(key) == 1 && key[0] >= '1' && int(key[0]-'1') < len(s.columns) {
			s.sortBy(int(key[0] - '1'))
		}
	}
	return false
}

// edit changes the filter that is being typed.
func (s *State) edit(key string) {
	switch key {
	case KeyEnter:
		s.filters[s.at], s.typing = s.typed, false
	case KeyEsc:
		s.typing = false
	case KeyBackspace:
		_, n := utf8.DecodeLastRuneInString(s.typed)
		s.typed = s.typed[:len(s.typed)-n]
	case KeyClear:
		s.typed = ""
	default:
		if utf8.RuneCountInString(key) == 1 && len(s.typed) < 200 {
			s.typed += key
		}
	}
}

// open goes into the chosen row.
func (s *State) open() {
	c := s.cursors[s.at]
	if s.at != s.at.view() || c.row >= len(s.lastRows) {
		return
	}
	row := s.lastRows[c.row]
	p := oneWorker
	if s.at == families {
		p, s.family = oneFamily, FamilyID{row.Name, row.Type}
	} else {
		s.worker = row.Name
	}
	s.cursors[p], s.filters[p] = cursor{}, ""
	s.goTo(p)
}

// goTo goes to another place, whose rows are not known before they are rendered.
func (s *State) goTo(p place) { s.at, s.lastRows, s.columns = p, nil, nil }

// sort goes on to another column.
func (s *State) sort(by int) {
	if n := len(s.columns); n > 0 {
		s.orders[s.at] = order{column: (s.orders[s.at].column + by + n) % n}
	}
}

// sortBy sorts by a column, and the other way round if it is that already.
func (s *State) sortBy(column int) {
	o := &s.orders[s.at]
	if o.column == column {
		o.reverse = !o.reverse
	} else {
		*o = order{column: column}
	}
}

// move chooses another row.
func (s *State) move(by int) {
	if len(s.lastRows) == 0 {
		return
	}
	c := &s.cursors[s.at]
	c.row = min(max(c.row+by, 0), len(s.lastRows)-1)
	c.moved = true
	c.name, c.kind = s.lastRows[c.row].Name, s.lastRows[c.row].Type
}

// follow finds the chosen row again, and lets the screen have it.
func (s *State) follow(rows []Row, page int) *cursor {
	c := &s.cursors[s.at]
	if c.moved {
		if i := slices.IndexFunc(rows, func(r Row) bool { return r.Name == c.name && r.Type == c.kind }); i >= 0 {
			c.row = i
		}
	}
	c.row = max(min(c.row, len(rows)-1), 0)
	c.top = max(min(c.top, c.row, len(rows)-page), c.row-page+1, 0)
	s.lastRows, s.lastPage = rows, page
	return c
}

// filter returns the filter in force: the one that is being typed acts at once.
func (s *State) filter() string {
	if s.typing {
		return s.typed
	}
	return s.filters[s.at]
}

// helpText is the help, in at most 22 lines of 80 cells.
var helpText = strings.Split(`Keys
  Tab        workers or families        Up Down k j  choose a row
  Enter      open it: a family by       PgUp PgDn Home End g G
             worker, a worker by        < > Left Right  sort by another column
             family; Esc goes back      1 to 9       by that one, or reverse
  /          filter; Esc ends it        r            reverse the order
  p Space    pause                      q Ctrl-C     quit

UPDATES/S  by how much all counters and the counts of histograms and summaries
           of a worker grow in a second. A counter of bytes counts bytes.
RATE/S     the same of one family. Gauges have none.
SHARE      what part of all workers' rate that is.
SKEW       how evenly living workers share a family: the busiest one's rate by
           their mean. 1 is even; with n workers, n is one of them doing it all.
CV         another measure of it, on wide screens: the standard deviation of
           their rates by the mean. 0 is even.
CPU%       of one core. AGE, CPU% and RSS are of the process, where it is seen.
STATE      whether a process can still write the files.
VALUE      the sum of the counts; of a gauge its value, if there is but one.
-          is not known.
                                                          any key goes on`, "\n")
