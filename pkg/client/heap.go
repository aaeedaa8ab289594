package client

import "github.com/promagg/promagg/internal/mmapfile"

// heap has the values of a process without a directory: what would be in its
// files, by kind and key. The store's lock protects it.
type heap map[kind]map[string]*heapEntry

// heapEntry is what would be a key's entries. Each value has a cache line of its
// own.
type heapEntry struct {
	value, stamp mmapfile.Value
	rest         []*spacedValue
}

type spacedValue struct {
	mmapfile.Value
	_ [cacheLine - 8]byte
}

func (h heap) place(k kind, key string) spot {
	e := h[k][key]
	if e == nil {
		e = new(heapEntry)
		if h[k] == nil {
			h[k] = make(map[string]*heapEntry)
		}
		h[k][key] = e
	}
	at := spot{value: &e.value, stamp: &e.stamp}
	for _, v := range e.rest {
		at.rest = append(at.rest, &v.Value)
	}
	return at
}

// more returns all values of a key, n at least.
func (h heap) more(k kind, key string, n int) (values []*mmapfile.Value, ok bool) {
	e := h[k][key]
	if e == nil {
		return nil, false
	}
	for len(e.rest) < n-1 {
		e.rest = append(e.rest, new(spacedValue))
	}
	values = append(values, &e.value)
	for _, v := range e.rest {
		values = append(values, &v.Value)
	}
	return values, true
}

// images returns value files with all that is there, by name.
func (h heap) images(id string) map[string][]byte {
	images := make(map[string][]byte)
	for k, entries := range h {
		image := mmapfile.NewImage(mmapfile.ValueTimestamp)
		for key, e := range entries {
			image.Append([]byte(key), e.value.Load(), e.stamp.Load())
			for _, v := range e.rest {
				image.Append([]byte(key), v.Load(), 0)
			}
		}
		images[mmapfile.Name{Type: k.typ, Mode: k.mode, ID: id}.String()] = image.Bytes()
	}
	return images
}
