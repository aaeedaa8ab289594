// Package packaging is what promagg is installed and watched with: the Debian package,
// images and manifests, dashboard and alerts. It has no code, only tests, which try all
// that with the programs that it is for.
package packaging
