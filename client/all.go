package client

import (
	"context"
	"iter"
)

// A batch is bounded by its number of documents, so that the signer's sessions
// stay busy while a single caller's invoice does not wait long behind it, and by
// its bytes, so that memory is. Several are under way at once: while one is
// being signed, the next is prepared and the one before put together.
const (
	batchDocuments = 64
	batchBytes     = 8 << 20
	batchesAtOnce  = 3
)

// SignAll signs many documents, and yields a result for each, in the order of
// the documents: either the signed document or an error, which concerns that
// document alone. An error that documents yields takes that document's place in
// the results. If ctx ends, what is still open ends with its error.
//
// The documents are read as they are needed, in another goroutine, and at most a
// few batches are held in memory. Leaving the loop early stops everything
// before the loop ends, once documents has come to its next one.
func (c *Client) SignAll(ctx context.Context, documents iter.Seq2[Document, error]) iter.Seq2[*Signed, error] {
	return func(yield func(*Signed, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		left := make(chan struct{})
		queue := make(chan *batch, batchesAtOnce-1)
		go c.feed(ctx, documents, queue, left)
		defer func() {
			close(left)
			cancel()
			for b := range queue {
				<-b.done
			}
		}()
		for b := range queue {
			<-b.done
			for _, it := range b.items {
				if !yield(it.signed, it.err) {
					return
				}
			}
		}
	}
}

// batch is a number of documents that are signed together. The items are ready
// once done is closed.
type batch struct {
	items []*item
	bytes int
	done  chan struct{}
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

func (b *batch) full() bool { return len(b.items) >= batchDocuments || b.bytes >= batchBytes }

// feed cuts the documents into batches, starts each and queues it; the queue's
// bound is what limits how many are under way. It stops when the reader of the
// results has left, and closes the queue as the last thing it does.
func (c *Client) feed(ctx context.Context, documents iter.Seq2[Document, error], queue chan<- *batch, left <-chan struct{}) {
	defer close(queue)
	next := newBatch()
	start := func() {
		b := next
		next = newBatch()
		queue <- b
		go func() {
			defer close(b.done)
			c.signItems(ctx, b.items, c.signDigests)
		}()
	}
	for doc, err := range documents {
		it := &item{err: err}
		if err == nil {
			it = newItem(doc)
		}
		select {
		case <-left:
			return
		default:
		}
		next.items = append(next.items, it)
		next.bytes += len(doc.Content)
		if next.full() {
			start()
		}
	}
	if len(next.items) > 0 {
		start()
	}
}
