package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/roamsign/roamsign/client"
)

// One client serves the whole process, and any number of goroutines.
func Example() {
	cfg, err := client.Load("client.yaml")
	if err != nil {
		log.Fatal(err)
	}
	signer, err := client.Dial(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer signer.Close()

	invoice, err := os.ReadFile("invoice.xml")
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	signed, err := signer.SignXML(ctx, "C20880050010", invoice, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, signed for %s: %d bytes to submit\n", signed.Facts.Number, signed.TIN, len(signed.Document))
}

// What the signer refuses is an [client.Error] with a reason to act upon.
func ExampleError() {
	handle := func(err error) {
		refused, ok := errors.AsType[*client.Error](err)
		switch {
		case !ok:
			fmt.Println("the document is at fault:", err)
		case refused.Reason == "NOT_ALLOWED":
			fmt.Println("no grant for", refused.TIN)
		case refused.RetryAfter > 0:
			fmt.Println("try again in", refused.RetryAfter)
		default:
			fmt.Println(refused)
		}
	}
	handle(&client.Error{Reason: "NOT_ALLOWED", TIN: "C20880050010"})
	// Output: no grant for C20880050010
}

// A night's invoices are read as they are needed, signed in batches, and come
// back in order, each with its own error.
func ExampleClient_SignAll() {
	signAll := func(ctx context.Context, signer *client.Client, folder string) error {
		files, err := filepath.Glob(filepath.Join(folder, "*.json"))
		if err != nil {
			return err
		}
		documents := func(yield func(client.Document, error) bool) {
			for _, file := range files {
				content, err := os.ReadFile(file)
				if !yield(client.Document{Content: content}, err) {
					return
				}
			}
		}
		next := 0
		for signed, err := range signer.SignAll(ctx, documents) {
			file := files[next]
			next++
			if err != nil {
				log.Printf("%s: %v", file, err)
				continue
			}
			if err := os.WriteFile(file+".signed", signed.Document, 0o600); err != nil {
				return err
			}
		}
		return nil
	}
	_ = signAll
}
