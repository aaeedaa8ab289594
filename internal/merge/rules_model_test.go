package merge

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/mmapfile"
)

// modelRules are rules as one would apply them to an entry by hand. Families and
// labels are those of the model's world.
type modelRules struct {
	mode  map[string]mmapfile.Mode
	drop  map[string]bool
	less  map[string][]string
	label map[string]string
}

func newModelRules(rnd *rand.Rand) *modelRules {
	m := &modelRules{mode: make(map[string]mmapfile.Mode), drop: make(map[string]bool), less: make(map[string][]string), label: make(map[string]string)}
	for _, family := range []string{"a", "b", "c", "a_count", "b_sum", "c_total"} {
		if rnd.IntN(2) == 0 {
			m.mode[family] = pick(rnd, mmapfile.Modes()...)
		}
		if rnd.IntN(8) == 0 {
			m.drop[family] = true
		}
		for _, label := range []string{"l", "m"} {
			if rnd.IntN(3) == 0 {
				m.less[family] = append(m.less[family], label)
			}
		}
	}
	for _, label := range []string{"k", "l", "z"} {
		if rnd.IntN(3) == 0 {
			m.label[label] = "all"
		}
	}
	return m
}

// rules are the same for the index.
func (m *modelRules) rules(t *testing.T) (r Rules) {
	t.Helper()
	for _, family := range slices.Sorted(maps.Keys(m.mode)) {
		r.Modes = append(r.Modes, ModeRule{expression(t, family), m.mode[family]})
	}
	if len(m.drop) > 0 {
		r.Drop = append(r.Drop, expression(t, strings.Join(slices.Sorted(maps.Keys(m.drop)), "|")))
	}
	for family, labels := range m.less {
		for _, label := range labels {
			r.DropLabels = append(r.DropLabels, LabelRule{expression(t, family), label})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.label)) {
		r.Labels = append(r.Labels, mmapfile.Label{Name: name, Value: m.label[name]})
	}
	return r
}

// apply changes what an entry is of, and reports false if it does not count because
// its writer is dead.
func (m *modelRules) apply(k *familyKey, labels map[string]string, ended bool) bool {
	if mode, ok := m.mode[k.name]; ok && k.typ == mmapfile.Gauge {
		was := k.mode
		if k.mode = mode; was.Live() && !mode.Live() {
			k.mode++
		}
		if ended && k.mode != was && k.mode.Live() {
			return false
		}
	}
	for _, label := range m.less[k.name] {
		delete(labels, label)
	}
	for name, value := range m.label {
		if own, ok := labels[name]; ok {
			labels[fmt.Sprintf("exported_%s", name)] = own
		}
		labels[name] = value
	}
	return true
}
