//go:build race

package chaos

// raceFlag builds the binary as the tests are built.
const raceFlag = "-race"
