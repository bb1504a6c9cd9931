package fold

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync"
)

// Keys are for what leaves in place of content. A plain hash of a small personal record could be looked up by trying all of them; with a
// key it cannot, and once the key is destroyed it means nothing. Each environment has a key of its own. Safe for concurrent use.
type Keys struct {
	secret []byte
	mu     sync.Mutex
	envs   map[string]cipher
}

// SecretBytesMin is the least length of the secret.
const SecretBytesMin = 16

// NewKeys derives keys from a secret of the installation. Other secret, other fingerprints: rows of before and after cannot be compared.
func NewKeys(secret []byte) (*Keys, error) {
	if len(secret) < SecretBytesMin {
		return nil, errors.New("the secret for fingerprints is shorter than 16 bytes")
	}
	return &Keys{secret: append([]byte(nil), secret...), envs: map[string]cipher{}}, nil
}

type cipher struct {
	block stdcipher.Block
	mac   []byte // key of hashed ids
}

func (k *Keys) of(environment string) cipher {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.envs[environment]
	if !ok {
		mac := hmac.New(sha256.New, k.secret)
		mac.Write([]byte("tidemark fingerprints 1\x00" + environment))
		key := mac.Sum(nil)
		block, err := aes.NewCipher(key[:16])
		if err != nil {
			panic(err) // 16 bytes are a key
		}
		c = cipher{block, key[16:]}
		k.envs[environment] = c
	}
	return c
}

// fingerprint is the first half of the hash, a block of AES, under the key: a permutation that nobody without the key can tell from a
// random one.
func (c *cipher) fingerprint(hash *[16]byte) uint64 {
	var out [16]byte
	c.block.Encrypt(out[:], hash[:])
	return binary.BigEndian.Uint64(out[:])
}

// id is what stands for a record id: 16 hex digits.
func (c *cipher) id(id string) string {
	mac := hmac.New(sha256.New, c.mac)
	mac.Write([]byte(id))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// HashID is what stands for a record id when ids are hashed: 16 hex digits.
func (k *Keys) HashID(environment, id string) string {
	c := k.of(environment)
	return c.id(id)
}
