package detect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What one list of pointers may hold, and what it may compile to: names and wildcards at one level multiply.
const (
	pointersMax = 1024
	nodesMax    = 1 << 16
)

// parsePointer splits a JSON Pointer (RFC 6901) into its unescaped segments. The empty pointer, which means the whole
// document, is refused.
func parsePointer(p string) ([]string, error) {
	if p == "" || p[0] != '/' {
		return nil, fmt.Errorf("%w: %q does not begin with '/'", ErrInvalidPointer, p)
	}
	if !utf8.ValidString(p) {
		return nil, fmt.Errorf("%w: %q is not UTF-8", ErrInvalidPointer, p)
	}
	segments := strings.Split(p[1:], "/")
	if len(segments) > MaxDepth {
		return nil, fmt.Errorf("%w: %d segments, more than %d", ErrInvalidPointer, len(segments), MaxDepth)
	}
	for k, s := range segments {
		for _, after := range strings.Split(s, "~")[1:] {
			if after == "" || after[0] != '0' && after[0] != '1' {
				return nil, fmt.Errorf("%w: '~' without 0 or 1 in %q", ErrInvalidPointer, p)
			}
		}
		// In this order, so that ~01 becomes ~1 and not a slash.
		segments[k] = strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~")
	}
	return segments, nil
}

// node is a position in the tree that a list of pointers makes. At a nil node nothing is removed, there or below, so
// that leaving the tree costs one comparison.
type node struct {
	remove bool             // what is here goes
	any    *node            // for the members and elements that are not in named
	named  map[string]*node // once settled, with what any asks for
	hints  uint64           // bits of the names in named
	closed *place           // see closedPlace
}

// newTree compiles pointers. With wildcards, the segment "*" matches every member and every element.
func newTree(pointers []string, wildcards bool) (*node, error) {
	if len(pointers) == 0 {
		return nil, nil
	}
	if len(pointers) > pointersMax {
		return nil, fmt.Errorf("%w: %d pointers, more than %d", ErrInvalidPointer, len(pointers), pointersMax)
	}
	root := &node{}
	for _, p := range pointers {
		segments, err := parsePointer(p)
		if err != nil {
			return nil, err
		}
		n := root
		for _, s := range segments {
			n = n.extend(s, wildcards)
		}
		n.remove = true
	}
	budget := nodesMax
	root = settle([]*node{root}, &budget)
	if budget < 0 {
		return nil, fmt.Errorf("%w: too many combinations of names and wildcards", ErrInvalidPointer)
	}
	return root, nil
}

func (n *node) extend(segment string, wildcards bool) *node {
	if wildcards && segment == "*" {
		if n.any == nil {
			n.any = &node{}
		}
		return n.any
	}
	if n.named == nil {
		n.named = map[string]*node{}
	}
	child := n.named[segment]
	if child == nil {
		child = &node{}
		n.named[segment] = child
	}
	return child
}

// settle returns one node for all of ns together, so that a reader follows one path even where a name and a wildcard
// both match. It gives up when the budget of nodes falls below zero.
func settle(ns []*node, budget *int) *node {
	if *budget--; *budget < 0 {
		return nil
	}
	settled := &node{}
	var any []*node
	named := map[string][]*node{}
	for _, n := range ns {
		if n.remove {
			return &node{remove: true} // and everything below with it
		}
		if n.any != nil {
			any = append(any, n.any)
		}
		for name, child := range n.named {
			named[name] = append(named[name], child)
		}
	}
	if any != nil {
		settled.any = settle(any, budget)
	}
	if len(named) > 0 {
		settled.named = make(map[string]*node, len(named))
	}
	for name, children := range named {
		settled.named[name] = settle(append(slices.Clone(any), children...), budget)
		settled.hints |= 1 << hint(name)
	}
	return settled
}

// hint is a number below 64 that is cheap to get from a name: most names that are not in a map need not be hashed to
// know it.
func hint[S string | []byte](name S) uint {
	if len(name) == 0 {
		return 0
	}
	return (uint(len(name))*7 ^ uint(name[0])) & 63
}

// member returns the node of the member called name.
func (n *node) member(name []byte) *node {
	if n == nil {
		return nil
	}
	return n.find(name)
}

// element returns the node of the element of an array at index.
func (n *node) element(index int) *node {
	if n == nil || n.named == nil {
		return n.each()
	}
	var digits [20]byte
	return n.find(strconv.AppendInt(digits[:0], int64(index), 10))
}

// each returns the node of elements whatever their index.
func (n *node) each() *node {
	if n == nil {
		return nil
	}
	return n.any
}

func (n *node) find(name []byte) *node {
	if n.hints>>hint(name)&1 == 1 {
		if child, ok := n.named[string(name)]; ok {
			return child
		}
	}
	return n.any
}

func (n *node) removes() bool { return n != nil && n.remove }
