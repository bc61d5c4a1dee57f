//go:build !without_durable_seal

package beat

// keepsPromises: a promise is on disk before it is spoken of. A negative control builds without (docs/decisions/0016).
const keepsPromises = true
