package merge

import (
	"errors"
	"hash/crc32"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/promagg/promagg/internal/mmapfile"
)

// kind is what a file name says of how its entries merge.
type kind struct {
	typ  mmapfile.Type
	mode mmapfile.Mode
}

// keys holds what each key seen in a file of any kind stands for, so that the
// same key in a thousand files is parsed once. It does not hold the keys
// themselves: in most directories they would be most of the memory. A key is
// known by 96 bits of hash, of which 64 are seeded anew in each process, so that
// nobody can make two keys that look the same.
//
// Writers that run the same program have their keys in much the same order. So
// the first guess for a key is the one that followed the key before it in the
// last file that had that.
type keys struct {
	seed    maphash.Seed
	nodes   []node // the first is none
	special map[uint32]target
	text    int64 // bytes of labels that special holds
	kinds   map[kind]*keysOf
}

// keysOf are the keys of one kind.
type keysOf struct {
	nodes table[uint32]
	first uint32 // the first key of the last part that had one
	// like has the entries of the last part that began to have any, as far as it
	// had them then. See [Part.Add].
	like []entry
}

// node is one key.
type node struct {
	hash   uint64
	series *Series // nil: special has it
	check  uint32
	cell   uint32
	next   uint32 // the key that followed this one last
}

// target is where the entries of one key go. Of gauges with a series per part
// it has the labels, of all others the cell.
type target struct {
	series *Series
	cell   uint32
	ruby   bool
	bound  float64 // of a bucket or explicit count in Ruby's cumulative form, else NaN
	each   *eachPart
	drop   bool   // by a rule: it feeds nothing
	source uint32 // see Index.source
}

// eachPart is what all parts' series of one "all" gauge have in common.
type eachPart struct {
	fam    *family
	labels []mmapfile.Label // without pid
}

func newKeys() keys {
	return keys{seed: maphash.MakeSeed(), nodes: make([]node, 1), special: make(map[uint32]target), kinds: make(map[kind]*keysOf)}
}

func (ks *keys) of(k kind) *keysOf {
	of := ks.kinds[k]
	if of == nil {
		of = &keysOf{nodes: table[uint32]{hash: ks.hash}}
		ks.kinds[k] = of
	}
	return of
}

func (ks *keys) hash(n uint32) uint64 { return ks.nodes[n].hash }

// byHash returns the node of a hash, 0 if there is none.
func (ks *keys) byHash(of *keysOf, hash uint64) uint32 {
	return of.nodes.find(hash, func(n uint32) bool { return ks.nodes[n].hash == hash })
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (ks *keys) sum(key []byte) (hash uint64, check uint32) {
	return maphash.Bytes(ks.seed, key), crc32.Checksum(key, castagnoli)
}

// find returns the node of a key, 0 if there is none. guess is looked at first.
func (ks *keys) find(of *keysOf, guess uint32, hash uint64, check uint32) uint32 {
	if n := &ks.nodes[guess]; guess != 0 && n.hash == hash && n.check == check {
		return guess
	}
	if n := ks.byHash(of, hash); ks.nodes[n].check == check {
		return n
	}
	return 0
}

// put notes what a key stands for and returns its node. It returns 0, and
// forgets it, if another key has the same hash.
func (ks *keys) put(of *keysOf, hash uint64, check uint32, t target) uint32 {
	n := ks.byHash(of, hash)
	if n != 0 && ks.nodes[n].check != check {
		return 0
	}
	if n == 0 {
		n = uint32(len(ks.nodes))
		ks.nodes = append(ks.nodes, node{hash: hash, check: check})
		of.nodes.add(n)
	}
	at := &ks.nodes[n]
	at.series, at.cell = t.series, t.cell
	if t.each != nil || t.ruby || t.drop {
		at.series = nil
		ks.special[n] = t
		ks.text += t.each.bytes()
	}
	return n
}

// bytes returns how long the labels are.
func (e *eachPart) bytes() (n int64) {
	if e != nil {
		for _, l := range e.labels {
			n += int64(len(l.Name) + len(l.Value))
		}
	}
	return n
}

// target returns what a node stands for.
func (ks *keys) target(n uint32) target {
	if at := &ks.nodes[n]; at.series != nil {
		return target{series: at.series, cell: at.cell, bound: math.NaN()}
	}
	return ks.special[n]
}

// guess returns the node that the part's next key probably has.
func (ks *keys) guess(p *Part) uint32 {
	if p.last == 0 {
		return p.keys.first
	}
	return ks.nodes[p.last].next
}

// follow notes that the part's next key has been n.
func (ks *keys) follow(p *Part, n uint32) {
	switch {
	case n == 0:
		return
	case p.last == 0:
		p.keys.first = n
	default:
		ks.nodes[p.last].next = n
	}
	p.last = n
}

// resolve finds the cell of a key in a part, and makes it where it is new.
func (x *Index) resolve(p *Part, key []byte) (target, error) {
	hash, check := x.keys.sum(key)
	n := x.keys.find(p.keys, x.keys.guess(p), hash, check)
	t := x.keys.target(n)
	if n == 0 || !t.drop && t.each == nil && x.owner[t.cell] != t.series { // its series is gone, or has been replaced
		var err error
		if t, n, err = x.learn(p, key); err != nil {
			return t, err
		}
	} else if t.each != nil {
		var err error
		if t, err = x.eachOf(p, t); err != nil {
			return t, err
		}
	}
	x.keys.follow(p, n)
	return t, nil
}

// eachOf finds the part's own series of a gauge that each part has one of.
func (x *Index) eachOf(p *Part, t target) (target, error) {
	writer := p.name.Writer(t.ruby)
	if !utf8.ValidString(writer) {
		return t, &droppedError{BadLabel}
	}
	var err error
	if t.series, err = x.seriesOf(p, t.each.fam, withPID(t.each.labels, writer)); err == nil {
		t.cell = t.series.value
	}
	return t, err
}

// learn parses a key and notes what it stands for.
func (x *Index) learn(p *Part, key []byte) (t target, n uint32, err error) {
	// The key is copied first: reading it may fault, and whoever can write it may
	// change it while it is read.
	key = slices.Clone(key)
	parsed, err := mmapfile.ParseKeyUpTo(key, x.limits.Labels)
	if errors.Is(err, mmapfile.ErrLabels) {
		return t, 0, &droppedError{PastLabels}
	}
	if err != nil {
		return t, 0, err
	}
	id, bad, lawful := identify(&parsed, p.name.Type)
	if !lawful {
		return t, 0, &droppedError{bad}
	}
	if x.rules.drops(id.family) {
		t = target{drop: true, bound: math.NaN()}
		return t, x.note(p, key, t), nil
	}
	known := familyKey{id.family, p.name.Type, p.name.Mode}
	if p.name.Type == mmapfile.Gauge {
		known.mode = x.rules.mode(id.family, p.name.Mode)
	}
	fam := x.families[known]
	if fam == nil {
		known.name = strings.Clone(known.name) // it is part of a whole key
		fam = newFamily(known)
		fam.joins = x.rules.joins(known.name)
	}
	if t, err = x.newTarget(p, fam, &parsed, id); err != nil {
		return t, 0, err // of a family that is new nothing is kept
	}
	if x.families[fam.familyKey] == nil {
		x.families[fam.familyKey] = fam
	}
	return t, x.note(p, key, t), nil
}

// note notes what a key stands for and returns its node, 0 if there is none.
func (x *Index) note(p *Part, key []byte, t target) uint32 {
	if x.overgrown() {
		x.tidy()
		x.forget(true)
	}
	hash, check := x.keys.sum(key)
	return x.keys.put(p.keys, hash, check, t)
}

// newTarget makes what the entries of a key feed.
func (x *Index) newTarget(p *Part, fam *family, key *mmapfile.Key, id identity) (t target, err error) {
	t = target{ruby: key.Ruby, bound: math.NaN()}
	if fam.typ == mmapfile.Gauge {
		// As in the Python client, a gauge's own label of that name gives way.
		id.labels = slices.DeleteFunc(id.labels, func(l mmapfile.Label) bool { return l.Name == "pid" })
	}
	whole, less := id.labels, false
	id.labels, less = x.rules.relabel(id.family, id.labels)
	if less && t.ruby && fam.typ == mmapfile.Histogram {
		t.source = x.source(id.family, whole)
	}
	if fam.mode.Base() == mmapfile.All {
		t.each = &eachPart{fam, id.labels}
		t, err = x.eachOf(p, t)
	} else {
		err = x.feed(p, &t, fam, id)
	}
	if err == nil {
		x.help(p, fam, strings.ToValidUTF8(key.Help, "\uFFFD"))
	}
	return t, err
}

// feed finds the cell for what an entry is to its series.
func (x *Index) feed(p *Part, t *target, fam *family, id identity) (err error) {
	labels := labelsOf(id.labels)
	if id.role == roleBucket && fam.series(labels) == nil {
		// Room for the bucket, too, lest there be a series that nothing feeds.
		if err := x.room(p, 4, 4*lineBytes(fam, labels)); err != nil {
			return err
		}
	}
	if t.series, err = x.seriesOf(p, fam, labels); err != nil {
		return err
	}
	switch id.role {
	case roleValue:
		t.cell = t.series.value
	case roleSum:
		t.cell = t.series.sum
	case roleCount:
		t.cell = t.series.value
		if t.ruby && fam.typ == mmapfile.Histogram {
			// Ruby's explicit count is its +Inf bucket once more.
			t.cell, t.bound = t.series.infinity, math.Inf(1)
		}
	case roleBucket:
		if t.ruby {
			t.bound = id.bound
		}
		t.series, t.cell, err = x.bucket(p, fam, t.series, id.bound, id.le)
	}
	return err
}

// withPID returns the labels of one writer's series of an "all" gauge.
func withPID(labels []mmapfile.Label, writer string) Labels {
	i, _ := slices.BinarySearchFunc(labels, "pid", func(l mmapfile.Label, name string) int { return strings.Compare(l.Name, name) })
	return labelsOf(slices.Insert(slices.Clone(labels), i, mmapfile.Label{Name: "pid", Value: writer}))
}

// forget drops the keys that stand for nothing any more, or all: they are parsed
// again where they are seen again. The parts must be tidy.
func (x *Index) forget(all bool) {
	old := x.keys
	x.keys = keys{seed: old.seed, nodes: make([]node, 1), special: make(map[uint32]target), kinds: old.kinds}
	moved := make([]uint32, len(old.nodes))
	for _, of := range old.kinds {
		kept := table[uint32]{hash: x.keys.hash}
		for n := range of.nodes.all {
			t := old.target(n)
			if all || t.each != nil || !t.drop && (int(t.cell) >= len(x.owner) || x.owner[t.cell] != t.series) {
				continue
			}
			moved[n] = uint32(len(x.keys.nodes))
			x.keys.nodes = append(x.keys.nodes, old.nodes[n])
			kept.add(moved[n])
			if old.nodes[n].series == nil {
				x.keys.special[moved[n]] = t
			}
		}
		of.nodes, of.like = kept, nil
	}
	for i := range x.keys.nodes {
		x.keys.nodes[i].next = moved[x.keys.nodes[i].next]
	}
	for _, of := range old.kinds {
		of.first = moved[of.first]
	}
	for _, parts := range [][]*Part{x.parts, x.pending} {
		for _, p := range parts {
			p.last = moved[p.last]
		}
	}
}
