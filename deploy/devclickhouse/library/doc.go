// Package library finds libchdb, the ClickHouse engine as a shared library, and fetches it when it is not there.
//
// One version is pinned, with the checksum of the package it comes in and of the library inside. Nothing else is ever
// unpacked: an engine that reads and writes a user's data is not taken on trust, and not at whatever version is newest.
//
// # Where it is looked for
//
//  1. a path given by the configuration
//  2. the path in TIDEMARK_CHDB_LIBRARY
//  3. the cache: <user cache>/tidemark/chdb/<version>/libchdb.so
//
// A path that is given is taken as it is: whoever gives it vouches for it. [Fetch] fills the cache with the ordinary npm client,
// so that a mirror, a proxy or credentials that the machine is set up with are used, and this code knows no host.
//
// # Invariants
//
//   - The cache holds either no libchdb.so or a whole one whose checksum was right: it is written under another name, synced,
//     and renamed. A marker beside it, written after the rename, says so.
//   - Two fetches at once, in one process or in several, end in one download: a kernel lock on a file of the cache.
//   - A fetch that fails leaves nothing behind but the lock file.
//
// # Neighbours
//
// A leaf. deploy/devclickhouse calls [Find] and [Fetch]; the command line offers [Fetch] for machines that will be offline.
package library
