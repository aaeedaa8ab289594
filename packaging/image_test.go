package packaging

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/promagg/promagg/internal/testpeer"
)

// TestStatic: the program that packages have runs where there is nothing else, as in an
// image from scratch, and knows what it was built from.
func TestStatic(t *testing.T) {
	testpeer.Require(t, testpeer.Unshare)
	root := t.TempDir()
	program := filepath.Join(root, "promagg")
	run(t, "env", "VERSION=1.2.3", "REVISION=abc", "EPOCH=0", "scripts/build.sh", "linux", strings.TrimSpace(run(t, "go", "env", "GOHOSTARCH")), program)
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("it needs %v (%v)", libs, err)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("it needs a loader")
	}
	inside := func(args ...string) *exec.Cmd {
		return exec.Command(testpeer.Unshare.Path(), append([]string{"--pid", "--fork", "--kill-child", "--root=" + root, "--"}, args...)...)
	}
	out, err := inside("/promagg", "--version").CombinedOutput()
	if err != nil {
		out, err = inside("/promagg", "version").CombinedOutput()
	}
	if err != nil || !strings.Contains(string(out), "1.2.3") || !strings.Contains(string(out), "19700101") {
		t.Errorf("in an empty root: %v\n%s", err, out)
	}
	if err := os.Mkdir(filepath.Join(root, "metrics"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := testpeer.Start(t, inside("/promagg", "serve", "--dir=/metrics", "--web.listen-address=127.0.0.1:0"))
	awaitMetric(t, address(t, p), `^promagg_build_info\{.*revision="abc".*version="1\.2\.3"`)
}

// TestDockerfile: what can be said of it where there is no Docker.
func TestDockerfile(t *testing.T) {
	b, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	joined := bytes.ReplaceAll(b, []byte("\\\n"), []byte(" "))
	var (
		from  string
		last  = map[string]string{} // of the last stage
		args  []string
		words = regexp.MustCompile(`^([A-Z]+)\s+(.*)$`)
	)
	for line := range strings.Lines(string(joined)) {
		m := words.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		if m[1] == "FROM" {
			from, last = m[2], map[string]string{}
		}
		if m[1] == "ARG" {
			name, _, preset := strings.Cut(m[2], "=")
			args = append(args, name)
			if preset && strings.HasPrefix(name, "TARGET") {
				// https://github.com/docker/buildx/issues/510
				t.Errorf("%s: a default wins over what --platform says, and the image has a program for another machine", line)
			}
		}
		for _, used := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(m[2], -1) {
			if used[1] != "BUILDPLATFORM" && !slices.Contains(args, used[1]) { // which Docker sets
				t.Errorf("$%s is used and not declared: %s", used[1], line)
			}
		}
		if sources := strings.Fields(m[2]); m[1] == "COPY" && !strings.HasPrefix(m[2], "--from=") {
			for _, source := range sources[:len(sources)-1] {
				if _, err := os.Stat(filepath.Join("..", source)); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
		}
		last[m[1]] = m[2]
	}
	if from != "scratch" {
		t.Errorf("the image is from %q, want scratch", from)
	}
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(last["USER"]) {
		t.Errorf("USER is %q, want numbers: scratch has no names", last["USER"])
	}
	if last["ENTRYPOINT"] != `["/promagg"]` || last["CMD"] != `["serve"]` {
		t.Errorf("ENTRYPOINT %s, CMD %s: want both as lists, as there is no shell", last["ENTRYPOINT"], last["CMD"])
	}
	for _, need := range []string{"RUN scripts/build.sh", "COPY --from=build /out/promagg /promagg"} {
		if !strings.Contains(string(b), "\n"+need) {
			t.Errorf("no %s", need)
		}
	}
}

type container struct {
	Name          string
	RestartPolicy string `yaml:"restartPolicy"`
	Args          []string
	Env           []struct{ Name, Value string }
	Ports         []struct {
		Name string
		Port int `yaml:"containerPort"`
	}
	StartupProbe    probe `yaml:"startupProbe"`
	LivenessProbe   probe `yaml:"livenessProbe"`
	SecurityContext struct {
		Escalation   *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnly     bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities struct{ Drop, Add []string }
	} `yaml:"securityContext"`
	Mounts []struct {
		Name string
		Path string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	Get struct{ Path, Port string } `yaml:"httpGet"`
}

func (c container) env(name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// TestKubernetes: the fields on which it depends that the manifest works.
func TestKubernetes(t *testing.T) {
	var d struct {
		Kind string
		Spec struct {
			Selector struct{ MatchLabels map[string]string } `yaml:"selector"`
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					ShareProcessNamespace *bool `yaml:"shareProcessNamespace"`
					SecurityContext       struct {
						User    int  `yaml:"runAsUser"`
						NonRoot bool `yaml:"runAsNonRoot"`
						FSGroup int  `yaml:"fsGroup"`
					} `yaml:"securityContext"`
					Init       []container `yaml:"initContainers"`
					Containers []container
					Volumes    []struct {
						Name     string
						EmptyDir struct {
							Medium string
							Limit  string `yaml:"sizeLimit"`
						} `yaml:"emptyDir"`
					}
				}
			}
		}
	}
	decode(t, "kubernetes/promagg.yaml", &d)
	pod := d.Spec.Template.Spec
	if d.Kind != "Deployment" || len(pod.Init) != 1 || len(pod.Containers) != 1 || len(pod.Volumes) != 1 {
		t.Fatalf("want a deployment of one sidecar, one container and one volume: %+v", d)
	}
	sidecar, app, volume := pod.Init[0], pod.Containers[0], pod.Volumes[0]
	if sidecar.RestartPolicy != "Always" {
		t.Errorf("restartPolicy of the init container is %q: the application would wait for its end for ever", sidecar.RestartPolicy)
	}
	if sidecar.StartupProbe.Get.Path != "/-/ready" || sidecar.LivenessProbe.Get.Path != "/-/healthy" {
		t.Errorf("probes %+v, %+v", sidecar.StartupProbe, sidecar.LivenessProbe)
	}
	for _, p := range []probe{sidecar.StartupProbe, sidecar.LivenessProbe} {
		if len(sidecar.Ports) != 1 || p.Get.Port != sidecar.Ports[0].Name || sidecar.Ports[0].Port != 9917 {
			t.Errorf("a probe asks port %q, there is %+v", p.Get.Port, sidecar.Ports)
		}
	}
	if volume.EmptyDir.Medium != "Memory" || volume.EmptyDir.Limit == "" {
		t.Errorf("the directory is no memory of a bounded size: %+v", volume)
	}
	for _, c := range []container{sidecar, app} {
		if len(c.Mounts) != 1 || c.Mounts[0].Name != volume.Name || c.env("PROMETHEUS_MULTIPROC_DIR") != c.Mounts[0].Path {
			t.Errorf("%s has %+v mounted, and the directory %q", c.Name, c.Mounts, c.env("PROMETHEUS_MULTIPROC_DIR"))
		}
		if s := c.SecurityContext; s.Escalation == nil || *s.Escalation || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || len(s.Capabilities.Add) > 0 {
			t.Errorf("%s has more rights than it needs: %+v", c.Name, s)
		}
	}
	if s := pod.SecurityContext; s.User == 0 || !s.NonRoot || s.FSGroup == 0 || pod.ShareProcessNamespace == nil || !sidecar.SecurityContext.ReadOnly {
		t.Errorf("one user, not root, for both, and a choice of namespaces: %+v", pod)
	}
	for k, v := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Metadata.Labels[k] != v {
			t.Errorf("the selector asks for %s=%s, which pods don't have", k, v)
		}
	}
}

// TestCompose: both services share the directory, in memory, as one user.
func TestCompose(t *testing.T) {
	type service struct {
		Build       struct{ Context, Dockerfile string }
		User        string
		Environment map[string]string
		Volumes     []string
		Ports       []string
	}
	var c struct {
		Services map[string]service
		Volumes  map[string]struct {
			Options map[string]string `yaml:"driver_opts"`
		}
	}
	decode(t, "compose/compose.yaml", &c)
	app, pa := c.Services["app"], c.Services["promagg"]
	if app.User == "" || app.User != pa.User {
		t.Errorf("users are %q and %q, want the same", app.User, pa.User)
	}
	for name, s := range c.Services {
		if !slices.Contains(s.Volumes, "metrics:"+s.Environment["PROMETHEUS_MULTIPROC_DIR"]) {
			t.Errorf("%s has volumes %v and the directory %q", name, s.Volumes, s.Environment["PROMETHEUS_MULTIPROC_DIR"])
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s is reachable from elsewhere: %s", name, p)
			}
		}
		if info, err := os.Stat(filepath.Join("compose", s.Build.Context)); err != nil || !info.IsDir() {
			t.Errorf("%s: build context: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join("compose", pa.Build.Context, pa.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	uid, gid, _ := strings.Cut(pa.User, ":")
	if o := c.Volumes["metrics"].Options; o["type"] != "tmpfs" || !strings.Contains(o["o"], "uid="+uid+",gid="+gid) || !strings.Contains(o["o"], "size=") {
		t.Errorf("the directory is no memory of that user with a size: %v", o)
	}
}
