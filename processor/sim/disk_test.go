package sim

import (
	"io"
	"math/rand/v2"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is a file system in memory that can be copied as a crash would leave it, at any moment.
//
// MemFS.Lock takes the lock that stands between writing and copying twice, one inside the other; a copy that begins between the two
// waits for the first while the second waits for the copy. So nothing is copied while a directory is being locked.
type disk struct {
	*vfs.MemFS
	locking sync.RWMutex
}

func newDisk() *disk { return &disk{MemFS: vfs.NewCrashableMem()} }

func (d *disk) Lock(name string) (io.Closer, error) {
	d.locking.RLock()
	defer d.locking.RUnlock()
	return d.MemFS.Lock(name)
}

// crash copies what would be there after a crash: of what was not synced, a random part.
func (d *disk) crash(rng *rand.Rand) *disk {
	d.locking.Lock()
	defer d.locking.Unlock()
	return &disk{MemFS: d.MemFS.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})}
}
