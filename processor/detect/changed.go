package detect

// Changed names the top-level members that differ between an earlier payload, of which the names and field hashes
// were kept, and the one just scanned: added, removed or with another value, in canonical order. prevNames must be in
// that order too, as Result.Names is. The names are copies.
//
// ok is false when the earlier payload is not known, that is when prevNames is nil or the lists do not fit together; a
// caller then says that everything may have changed. A member whose value changed is missed once in 2^24 times; so an
// empty list for payloads with different hashes means the same as ok false.
func Changed[N string | []byte](prevNames []N, prevFields []uint32, cur Result) (names []string, ok bool) {
	if prevNames == nil || len(prevNames) != len(prevFields) {
		return nil, false
	}
	i, j := 0, 0
	for i < len(prevNames) && j < len(cur.Names) {
		switch {
		case string(prevNames[i]) == string(cur.Names[j]):
			if prevFields[i] != cur.Fields[j] {
				names = append(names, string(cur.Names[j]))
			}
			i++
			j++
		case compareNames(prevNames[i], cur.Names[j]) < 0:
			names = append(names, string(prevNames[i]))
			i++
		default:
			names = append(names, string(cur.Names[j]))
			j++
		}
	}
	for _, name := range prevNames[i:] {
		names = append(names, string(name))
	}
	for _, name := range cur.Names[j:] {
		names = append(names, string(name))
	}
	return names, true
}
