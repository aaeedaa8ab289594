package mmapfile

// ValidName reports whether s is a metric name (with colons) or a label name
// of the classic character set, which every version of both formats can hold.
func ValidName(s string, colon bool) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', c == '_', colon && c == ':':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
