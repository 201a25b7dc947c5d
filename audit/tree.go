package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
)

// tileWidth is how many hashes a full tile has, and how many entries a full bundle.
const tileWidth = layout.TileWidth

// leafHash is the hash of an entry (RFC 6962, section 2.1).
func leafHash(entry []byte) []byte { return rfc6962.DefaultHasher.HashLeaf(entry) }

// ranges makes the roots of growing trees.
func ranges() *compact.RangeFactory {
	return &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
}

// rootOf is the root hash of all that a range holds.
func rootOf(r *compact.Range) (Digest, error) {
	if r.End() == 0 {
		return sha256.Sum256(nil), nil
	}
	root, err := r.GetRootHash(nil)
	if err != nil || len(root) != len(Digest{}) {
		return Digest{}, fmt.Errorf("computing a root hash: %w", err)
	}
	return Digest(root), nil
}

// tileRoot is the hash of a tile's hashes, full or not, as a tree of their own.
func tileRoot(hashes []byte) ([]byte, error) {
	tree := ranges().NewEmptyRange(0)
	for hash := range slices.Chunk(hashes, len(Digest{})) {
		if err := tree.Append(hash, nil); err != nil {
			return nil, err
		}
	}
	return tree.GetRootHash(nil)
}

// rootAt computes the root hash that a log's tiles give a tree of this size.
func rootAt(ctx context.Context, source Source, size uint64) (Digest, error) {
	tree, err := rangeAt(ctx, source, size)
	if err != nil {
		return Digest{}, err
	}
	return rootOf(tree)
}

// rangeAt reads of a log's tiles what a tree of this size needs in order to grow.
func rangeAt(ctx context.Context, source Source, size uint64) (*compact.Range, error) {
	if size == 0 {
		return ranges().NewEmptyRange(0), nil
	}
	nodes := compact.RangeNodes(0, size, nil)
	hashes := make([][]byte, len(nodes))
	for i, node := range nodes {
		hash, err := nodeHash(ctx, source, node, size)
		if err != nil {
			return nil, err
		}
		hashes[i] = hash
	}
	tree, err := ranges().NewRange(0, size, hashes)
	if err != nil {
		return nil, fmt.Errorf("computing a root hash: %w", err)
	}
	return tree, nil
}

// nodeHash returns the hash of a node of the tree of this size, which must be
// the root of a full subtree.
func nodeHash(ctx context.Context, source Source, node compact.NodeID, size uint64) ([]byte, error) {
	level, index, height, place := layout.NodeCoordsToTileAddress(uint64(node.Level), node.Index)
	width := layout.PartialTileSize(level, index, size)
	tile, err := source.Tile(ctx, level, index, width)
	if err != nil {
		return nil, err
	}
	const length = len(Digest{})
	from, to := place<<height*uint64(length), (place+1)<<height*uint64(length)
	if uint64(len(tile)) < to {
		return nil, fmt.Errorf("%s: %d bytes, too few", layout.TilePath(level, index, width), len(tile))
	}
	return tileRoot(tile[from:to])
}

// split takes a bundle of entries apart: each is two bytes of length and so many
// of the entry.
func split(bundle []byte) ([][]byte, error) {
	entries := make([][]byte, 0, tileWidth)
	for len(bundle) > 0 {
		if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
			return entries, fmt.Errorf("cut off within entry %d", len(entries))
		}
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		entries = append(entries, bundle[2:end])
		bundle = bundle[end:]
	}
	return entries, nil
}

// widthAt is the width of the last resource of a level-0 tile or a bundle in a
// log of this size: 0 for a full one.
func widthAt(index, size uint64) uint8 { return layout.PartialTileSize(0, index, size) }
