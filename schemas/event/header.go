package event

// Header is one Kafka record header. The slices may alias a fetched batch: copy what outlives it.
type Header struct {
	Key, Value []byte
}

// Get returns the value of the first header of that name, and whether there is one.
func Get(headers []Header, key string) ([]byte, bool) {
	for i := range headers {
		if string(headers[i].Key) == key {
			return headers[i].Value, true
		}
	}
	return nil, false
}
