package api

import "fmt"

// DocumentedWords are parameters and issue codes, for the test that README.md names them all.
func DocumentedWords() []string {
	return append([]string{
		issueRequired, issueUnknown, issueRepeated, issueInvalid, issueTooLong, issueTooMany, issueOutOfRange, issueConflict,
	}, recordsParameters...)
}

// SamplePayload is a contact as a CRM has it, of about size bytes: a nested object, a list, and many short members.
func SamplePayload(id string, size int) []byte {
	b := fmt.Appendf(nil, `{"id":%q,"name":"Contact of the company","email":"someone@example.com","owner":{"id":17,"name":"An Owner"},"tags":["new","eu"],"score":17.5,"active":true,"updated":"2026-11-21T10:00:00Z"`, id)
	for i := 0; len(b) < size-30; i++ {
		b = fmt.Appendf(b, `,"field_%02d":"some text %d"`, i, i*7919)
	}
	return append(b, '}')
}
