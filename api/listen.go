package api

import (
	"fmt"
	"net"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// Listen opens a TCP address. While there are no API keys, whoever reaches the port reads everything: an address that is not on
// the loopback interface is refused with errcode.AddressNotLoopback unless insecure is set, in which case Serve logs a warning.
// A host name counts as what it resolves to now, and that is the address which is opened.
func Listen(addr string, insecure bool) (net.Listener, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("resolving the http address %q: %w", addr, err)
	}
	if !insecure && !tcp.IP.IsLoopback() { // an empty host is every interface: a nil IP, and not loopback
		return nil, errcode.New(errcode.AddressNotLoopback, "It is %q.", addr)
	}
	ln, err := net.ListenTCP("tcp", tcp)
	if err != nil {
		return nil, fmt.Errorf("listening for http: %w", err)
	}
	return ln, nil
}

// reachable reports whether an address accepts connections from other machines.
func reachable(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}
