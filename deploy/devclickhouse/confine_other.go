//go:build !linux

package devclickhouse

import "errors"

// confine says that this system has no Landlock.
func confine(orders) error { return errors.New("Landlock is a part of Linux") }
