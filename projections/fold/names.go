package fold

// names keeps one string for each name of a member: a collection has few of them, and they come with every change.
type names struct{ known map[string]string }

// namesMax bounds them: a record whose members are named after people makes a new one each time.
const namesMax = 1 << 14

func (n *names) of(b []byte) string {
	if s, ok := n.known[string(b)]; ok {
		return s
	}
	if n.known == nil || len(n.known) >= namesMax {
		n.known = map[string]string{}
	}
	s := string(b)
	n.known[s] = s
	return s
}
