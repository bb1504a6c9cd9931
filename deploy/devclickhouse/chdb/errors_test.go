package chdb

import "testing"

func TestNewError(t *testing.T) {
	for text, want := range map[string]Error{
		"Code: 60. DB::Exception: no table. (UNKNOWN_TABLE)":                       {60, "Code: 60. DB::Exception: no table. (UNKNOWN_TABLE)"},
		"Code: 1. DB::Exception: Code: 60. DB::Exception: no table":                {60, "Code: 60. DB::Exception: no table"},
		"Error: Code: 62. DB::Exception: Code: 62. DB::NetException: Syntax error": {62, "Code: 62. DB::Exception: Syntax error"},
		"Code: 60. DB::Exception: quotes Code: 61. DB::Exception: in the middle":   {60, "Code: 60. DB::Exception: quotes Code: 61. DB::Exception: in the middle"},
		" something else\n": {0, "something else"},
	} {
		if got := newError(text); *got != want {
			t.Errorf("%q is %+v, want %+v", text, *got, want)
		}
	}
}
