//go:build without_durable_seal

package beat

// keepsPromises: a promise is spoken of and never written.
const keepsPromises = false
