package packaging

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promagg/promagg/internal/testpeer"
)

// asInstalled is a shell script that runs on a copy of the machine: what it changes is on
// an overlay that is gone with the mount namespace. $1 and $2 are packages, an old and a
// new one. There is no systemd running there, so what units do is not tried.
const asInstalled = `
set -eux
there=$PWD/machine
mkdir "$there" layers
mount -t tmpfs tmpfs layers
mkdir layers/upper layers/work
mount -t overlay overlay -o "lowerdir=/,upperdir=$PWD/layers/upper,workdir=$PWD/layers/work" "$there"
mount -t proc proc "$there/proc"
mount --rbind /dev "$there/dev"
mount -t tmpfs tmpfs "$there/run"
cp "$1" "$there/old.deb"
cp "$2" "$there/new.deb"
exec chroot "$there" sh -eux -c '
fail() { echo "FAILED: $*"; exit 1; }
absent() { for f; do if [ -e "$f" ] || [ -L "$f" ]; then fail "$f is there"; fi; done; }
export DEBIAN_FRONTEND=noninteractive
dpkg --purge promagg >/dev/null 2>&1 || true

: install
dpkg --install old.deb
promagg --help >/dev/null
id promagg
[ "$(id -u promagg)" -lt 1000 ] || fail "promagg is no system user"
absent /etc/systemd/system/*.wants/promagg* /run/promagg
! pgrep -x promagg || fail "something was started"
systemd-analyze verify --man=no promagg.service promagg@shop.service promagg.socket >verified 2>&1 || fail "$(cat verified)"
[ ! -s verified ] || fail "$(cat verified)"
systemd-tmpfiles --create promagg.conf
[ "$(stat -c "%U:%G %a" /run/promagg/default)" = "promagg:promagg 2770" ] || fail "$(ls -ld /run/promagg/default)"

: upgrade, with settings changed, an instance, and a unit enabled
uid=$(id -u promagg)
echo PROMAGG_WEB_LISTEN_ADDRESS=127.0.0.1:9918 >>/etc/default/promagg
cp /etc/default/promagg kept
echo PROMAGG_WEB_LISTEN_ADDRESS=127.0.0.1:9919 >/etc/default/promagg-shop
systemctl enable promagg.service promagg@shop.service promagg.socket
dpkg --install new.deb
cmp kept /etc/default/promagg || fail "settings were changed"
[ "$(id -u promagg)" = "$uid" ] || fail "the user has another number"
[ "$(dpkg-query -W -f "\${Version}" promagg)" = 2 ] || fail "not the new version"
[ -e /etc/systemd/system/multi-user.target.wants/promagg@shop.service ] || fail "the instance is not enabled any more"

: remove: settings stay
dpkg --remove promagg
absent /usr/bin/promagg /usr/lib/systemd/system/promagg.service
cmp kept /etc/default/promagg || fail "settings were changed"
id promagg
dpkg --install new.deb
cmp kept /etc/default/promagg || fail "settings were changed"

: purge: nothing stays
dpkg --purge promagg
absent /etc/default/promagg* /run/promagg /usr/share/promagg /usr/share/doc/promagg /var/lib/dpkg/info/promagg.*
absent /etc/systemd/system/*.wants/promagg* /usr/lib/*/promagg.conf
! id promagg || fail "the user is still there"
! getent group promagg || fail "the group is still there"
: all done
'
`

// TestDebVersions: packages of later commits are newer to dpkg, up to the release and on.
func TestDebVersions(t *testing.T) {
	testpeer.Require(t, testpeer.Dpkg)
	var before string
	for _, version := range []string{"dev", "1.2.0-rc.1", "1.2.0-rc.1-4-gabcdef0", "1.2.0-rc.1-4-gabcdef0-dirty", "1.2.0-rc.2", "1.2.0", "1.2.0-3-gabcdef0", "1.2.1-rc.1", "1.2.1"} {
		deb := strings.TrimSpace(run(t, "env", "VERSION="+version, "EPOCH=1", "bash", "-c", ". scripts/version.sh; echo $DEB_VERSION"))
		if before != "" && exec.Command(testpeer.Dpkg.Path(), "--compare-versions", before, "lt", deb).Run() != nil {
			t.Errorf("%s: dpkg does not take %s for newer than %s", version, deb, before)
		}
		before = deb
	}
}

// TestDeb: the Debian package, installed, upgraded, removed and purged by dpkg.
func TestDeb(t *testing.T) {
	testpeer.Require(t, testpeer.Dpkg, testpeer.Overlay, testpeer.SystemdAnalyze)
	before := run(t, "dpkg-query", "--show")
	arch := strings.TrimSpace(run(t, "dpkg", "--print-architecture"))
	out := t.TempDir()
	for _, version := range []string{"1", "2"} {
		run(t, "env", "DEB_VERSION="+version, "scripts/deb.sh", out, arch)
	}
	deb := func(version string) string { return filepath.Join(out, "promagg_"+version+"_"+arch+".deb") }
	if got, want := strings.Fields(run(t, "dpkg-deb", "--field", deb("1"), "Package", "Version", "Architecture")), "Package: promagg Version: 1 Architecture: "+arch; strings.Join(got, " ") != want {
		t.Errorf("the package says %q, want %q", got, want)
	}
	if got := strings.TrimSpace(run(t, "dpkg-deb", "--info", deb("1"), "conffiles")); got != "/etc/default/promagg" {
		t.Errorf("conffiles are %q", got)
	}
	if t.Failed() {
		return
	}
	cmd := exec.Command(testpeer.Overlay.Path(), "--mount", "--pid", "--fork", "sh", "-c", asInstalled, "sh", deb("1"), deb("2"))
	cmd.Dir = t.TempDir()
	log, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(log)), ": all done") {
		t.Errorf("on a copy of this machine: %v\n%s", err, log)
	}
	if after := run(t, "dpkg-query", "--show"); after != before {
		t.Errorf("the machine itself has other packages now:\n%s", cmp.Diff(before, after))
	}
}
