//go:build !unix

package library

import "context"

// There is no library for such a system, so nothing is ever locked or measured on it.

func lockFile(context.Context, string) (func(), error) { return nil, ErrPlatform }

func freeBytes(string) (int64, error) { return 0, ErrPlatform }
