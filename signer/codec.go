package signer

import (
	"google.golang.org/grpc/encoding"
	standard "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// codec is gRPC's own, but for batches: an empty item is two bytes on the wire
// and a hundred times that in memory, so of an overlong batch no more is read
// than shows that it is too long.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(standard.Name)} }

// Unmarshal reads a message.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	batch, ok := v.(*roamsignv1.SignDigestsRequest)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	return proto.Unmarshal(cutBatch(buffer.ReadOnlyData()), batch)
}

// cutBatch returns a batch's bytes up to the end of the item that is one too
// many. Malformed bytes are left as they are, to be refused.
func cutBatch(raw []byte) []byte {
	items := 0
	for at := 0; at < len(raw); {
		field, kind, n := protowire.ConsumeField(raw[at:])
		if n < 0 {
			return raw
		}
		at += n
		if field != itemsField || kind != protowire.BytesType {
			continue
		}
		if items++; items > maxItems {
			return raw[:at]
		}
	}
	return raw
}

// itemsField is the number of SignDigestsRequest.items.
const itemsField = 1
