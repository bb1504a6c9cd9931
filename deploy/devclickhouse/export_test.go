package devclickhouse

import "time"

// Hurry has the supervisor ask for signs of life more often, and wait less for them.
func Hurry(c *Config) {
	c.pace = pace{pingEvery: 50 * time.Millisecond, pingTimeout: 500 * time.Millisecond}
}
