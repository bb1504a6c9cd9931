package cli

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDoctor_Disk(t *testing.T) {
	for free, want := range map[int64]string{0: statusFail, diskFail - 1: statusFail, diskFail: statusWarn, diskWarn - 1: statusWarn, diskWarn: statusOK} {
		f := checkDisk(filepath.Join(t.TempDir(), "not", "there"), func(dir string) (int64, error) {
			if _, err := os.Stat(dir); err != nil {
				t.Error(err)
			}
			return free, nil
		})
		if f.Status != want || (f.Hint == "") != (want == statusOK) {
			t.Errorf("%d: %+v", free, f)
		}
	}
	if f := checkDisk(".", func(string) (int64, error) { return 0, errors.New("no such device") }); f.Status != statusFail || !strings.Contains(f.Detail, "no such device") {
		t.Errorf("%+v", f)
	}
	if n, err := diskFree("."); err != nil || n <= 0 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestDoctor_Files(t *testing.T) {
	for limit, want := range map[uint64]string{256: statusFail, filesFail: statusWarn, filesWarn: statusOK, 1<<64 - 1: statusOK} {
		if f := checkFiles(func() (uint64, error) { return limit, nil }); f.Status != want || (f.Hint == "") != (want == statusOK) {
			t.Errorf("%d: %+v", limit, f)
		}
	}
	if n, err := filesLimit(); err != nil || n == 0 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestDoctor_Clock(t *testing.T) {
	theirs := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", theirs.Format(http.TimeFormat))
	}))
	defer s.Close()
	for skew, want := range map[time.Duration]string{
		0: statusOK, 900 * time.Millisecond: statusOK, -5 * time.Second: statusOK, 6 * time.Second: statusWarn, -time.Minute: statusWarn,
		6 * time.Minute: statusFail, -24 * time.Hour: statusFail,
	} {
		f := checkClock(t.Context(), s.URL, func() time.Time { return theirs.Add(skew) })
		if f.Status != want || (f.Hint == "") != (want == statusOK) {
			t.Errorf("%s: %+v", skew, f)
		}
	}
	if f := checkClock(t.Context(), "127.0.0.1:1", time.Now); f.Status != statusOK || !strings.Contains(f.Detail, "no server") {
		t.Errorf("%+v", f)
	}
}

func TestDoctor_Server(t *testing.T) {
	ready := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(ready)
	}))
	defer s.Close()
	if f := checkServer(t.Context(), s.URL); f.Status != statusOK {
		t.Errorf("%+v", f)
	}
	ready = http.StatusServiceUnavailable
	if f := checkServer(t.Context(), s.URL); f.Status != statusWarn || !strings.Contains(f.Hint, "/readyz") {
		t.Errorf("%+v", f)
	}
	// A port with somebody on it who does not speak HTTP, and then nobody.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	addr := ln.Addr().String()
	if f := checkServer(t.Context(), addr); f.Status != statusFail || !strings.Contains(f.Detail, "another program") {
		t.Errorf("%+v", f)
	}
	ln.Close()
	if f := checkServer(t.Context(), addr); f.Status != statusWarn || !strings.Contains(f.Detail, "free") {
		t.Errorf("%+v", f)
	}
	if f := checkServer(t.Context(), "nonsense"); f.Status != statusFail {
		t.Errorf("%+v", f)
	}
}

func TestDoctor_DataDir(t *testing.T) {
	dir := t.TempDir()
	if f := checkDataDir(filepath.Join(dir, "new")); f.Status != statusOK || !strings.Contains(f.Detail, "not there yet") {
		t.Errorf("%+v", f)
	}
	if f := checkDataDir(dir); f.Status != statusOK || !strings.Contains(f.Detail, "not in use") {
		t.Errorf("%+v", f)
	}
	if os.Geteuid() == 0 {
		return // root may write anywhere
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if f := checkDataDir(dir); f.Status != statusFail || f.Hint == "" {
		t.Errorf("%+v", f)
	}
}
