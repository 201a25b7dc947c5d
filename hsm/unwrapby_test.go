package hsm

import "context"

// UnwrapBy brings a key in with the mechanism of this name, for a test of each
// of those that we know.
func UnwrapBy(ctx context.Context, config Config, soft *SoftKey, mechanism string) error {
	return work(ctx, config, func(b bench) error {
		for _, how := range unwrappings {
			if how.name == mechanism {
				handle, err := b.unwrap(soft, how)
				if err != nil {
					return err
				}
				return b.accept(handle, &soft.key().PublicKey)
			}
		}
		return ErrModule
	})
}
