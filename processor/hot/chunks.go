package hot

// chunks is a list of entries that grows by pieces: nothing is copied once there are chunkLen of them, and at most one piece is
// empty. Entries are known by their position, which never changes.
type chunks[E any] [][]E

const (
	chunkBits = 9
	chunkLen  = 1 << chunkBits
	chunkMin  = 8 // room of the first piece of a small table
)

func (c chunks[E]) at(pos int) *E { return &c[pos>>chunkBits][pos&(chunkLen-1)] }

// room returns the next larger number of entries that there can be room for.
func nextRoom(room int) int {
	switch {
	case room == 0:
		return chunkMin
	case room < chunkLen:
		return room * 2
	}
	return room + chunkLen
}

// roomFor returns the smallest number of entries, n or more, that there can be room for.
func roomFor(n int) int {
	if n > chunkLen {
		return (n + chunkLen - 1) &^ (chunkLen - 1)
	}
	room := 0
	for room < n {
		room = nextRoom(room)
	}
	return room
}

// resize makes room for that many entries of width elements each, one of the numbers that nextRoom and roomFor return.
func (c chunks[E]) resize(room, width int) chunks[E] {
	if len(c) == 1 && len(c[0]) < min(room, chunkLen)*width {
		c[0] = append(make([]E, 0, min(room, chunkLen)*width), c[0]...)[:min(room, chunkLen)*width]
	}
	for have := len(c) * chunkLen; have < room; have += chunkLen {
		c = append(c, make([]E, min(room-have, chunkLen)*width))
	}
	return c
}
