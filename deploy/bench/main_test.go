package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devkafka"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// roleEnv makes the test binary one of the other processes of a benchmark. Its arguments follow in TIDEMARK_BENCH_ARGS.
const (
	roleEnv = "TIDEMARK_BENCH_ROLE"
	argsEnv = "TIDEMARK_BENCH_ARGS"
)

var roles = map[string]func(args []string) error{
	"broker": serveBroker, "stack": serveStack, "reader": readPages,
}

func TestMain(m *testing.M) {
	if devclickhouse.RunChild() {
		return
	}
	if role := os.Getenv(roleEnv); role != "" {
		if err := roles[role](strings.Split(os.Getenv(argsEnv), "\n")); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := figures.print(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// process is another process of a benchmark: it says its first line when it is ready, and ends when its standard input does.
type process struct {
	cmd   *exec.Cmd
	first []string // words of the first line
	in    io.WriteCloser
	out   *bufio.Reader
	stop  func()
}

func start(tb testing.TB, role string, args ...string) *process {
	tb.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role, argsEnv+"="+strings.Join(args, "\n"))
	p.cmd.Stderr = os.Stderr
	var err error
	p.in, err = p.cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		p.in.Close()
		if err := p.cmd.Wait(); err != nil {
			tb.Errorf("%s ended: %v", role, err)
		}
	}
	tb.Cleanup(p.stop)
	p.out = bufio.NewReader(out)
	line, err := p.out.ReadString('\n')
	if err != nil {
		tb.Fatalf("%s said nothing: %v", role, err)
	}
	p.first = strings.Fields(line)
	return p
}

// untilParentEnds blocks until the parent closes our standard input, as it does when it dies, too.
func untilParentEnds() {
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // the end of the input is the message
}

const partitions = 8

func names() topic.Names {
	n, err := topic.NamesFor(topic.PrefixDefault, 1)
	if err != nil {
		panic(err)
	}
	return n
}

// copyTopic is what baselines write to.
const copyTopic = "bench.copy"

// serveBroker is the role of a broker: directory, partition count.
func serveBroker(args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 32)
	if err != nil {
		return err
	}
	b, err := devkafka.Start(context.Background(), devkafka.Config{
		DataDir: args[0], Listen: "127.0.0.1:0", Partitions: int32(n), Logger: slog.New(slog.DiscardHandler), MaxMessageBytes: 8 << 20,
	})
	if err != nil {
		return err
	}
	defer b.Close()
	for _, s := range topic.Manifest(names(), int32(n), topic.RecordBytesMax) {
		if err := b.CreateTopic(s.Name, s.Partitions, s.Configs); err != nil {
			return err
		}
	}
	if err := b.CreateTopic(copyTopic, int32(n), nil); err != nil {
		return err
	}
	fmt.Println(b.Addr())
	untilParentEnds()
	return nil
}

// startBroker runs a broker in a process of its own and returns its address.
func startBroker(tb testing.TB, partitions int) string {
	tb.Helper()
	return start(tb, "broker", tb.TempDir(), strconv.Itoa(partitions)).first[0]
}
