// A Vault with just what the tests use: the transit engine, tokens and policies, everything in memory and in clear HTTP.
//
// It is the server that others wrote, put together as its own `server -dev` is, but sealed and not set up. It is kept as a
// source file, so that go.mod and go.sum pin every module of it and nothing but go is needed to build it. scripts/tools.sh
// does, into .tools/. 1.13.0 is under the MPL, as releases from 1.15 on are not, and names a released SDK.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// builtins says which plugins there are: the engine is compiled in, and no other is.
type builtins struct{}

func (builtins) Contains(name string, _ consts.PluginType) bool { return name == "transit" }

func (builtins) Get(string, consts.PluginType) (func() (interface{}, error), bool) { return nil, false }

func (builtins) Keys(consts.PluginType) []string { return nil }

func (builtins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, true
}

func (builtins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where it listens")
	flag.Parse()
	if err := serve(*listen); err != nil {
		log.Fatalf("vault: %v", err)
	}
}

func serve(listen string) error {
	logger := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Warn})
	store, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	addr := listener.Addr().String()
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:        store,
		LogicalBackends: map[string]logical.Factory{"transit": transit.Factory},
		BuiltinRegistry: builtins{},
		RedirectAddr:    "http://" + addr,
		DisableMlock:    true,
		Logger:          logger,
	})
	if err != nil {
		return err
	}
	fmt.Println("listening on " + addr)
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core:           core,
		ListenerConfig: &configutil.Listener{Address: addr, TLSDisable: true},
	})
	return http.Serve(listener, handler)
}
