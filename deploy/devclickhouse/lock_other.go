//go:build !unix

package devclickhouse

import (
	"context"
	"os"
	"os/exec"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/library"
)

func lockDir(context.Context, string) (*os.File, error) { return nil, library.ErrPlatform }

func ownGroup(*exec.Cmd) {}

func killGroup(p *os.Process) { p.Kill() }
