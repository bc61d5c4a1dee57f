//go:build !without_durable_seal

package beat

// keepsPromises: a promise is on disk before it is spoken of. A negative control builds without (docs/decisions/0017).
const keepsPromises = true
