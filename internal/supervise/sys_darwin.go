package supervise

import "syscall"

// There are no signals without a name.
const firstRealTime, lastRealTime = 1, 0

// reapOrphans does nothing: macOS has no subreapers, launchd gets the orphans.
func reapOrphans() error { return nil }

// childAttr is as on Linux, but that nothing ends the application when this process is
// killed.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// No process becomes our child but the application.

func processes() []process { return nil }

func children() []process { return nil }

func executable(int) string { return "" }
