package event

// timeLast is the last millisecond that RFC 3339 can write, for its years have four digits.
const timeLast = 253402300799999

// AppendTime appends ms since the epoch as RFC 3339 in UTC with milliseconds. Times before 1970 and after 9999 become the
// nearest one that can be written: a clock that is off must not make an invalid document. The standard formatter takes as long as
// the rest of an envelope, hence our own.
func AppendTime(b []byte, ms int64) []byte {
	ms = min(max(ms, 0), timeLast)
	day, ms := ms/86_400_000, ms%86_400_000
	year, month, dom := civil(uint32(day))
	b = appendTwo(b, year/100)
	b = appendTwo(b, year%100)
	b = appendTwo(append(b, '-'), month)
	b = appendTwo(append(b, '-'), dom)
	s, ms := uint32(ms/1000), ms%1000
	b = appendTwo(append(b, 'T'), s/3600)
	b = appendTwo(append(b, ':'), s/60%60)
	b = appendTwo(append(b, ':'), s%60)
	b = append(b, '.', '0'+byte(ms/100))
	b = appendTwo(b, uint32(ms%100))
	return append(b, 'Z')
}

func appendTwo(b []byte, v uint32) []byte {
	return append(b, '0'+byte(v/10), '0'+byte(v%10))
}

// civil is the Gregorian date of a day since 1970-01-01. Years are counted from March, so that the leap day is the last day of a
// year and months have a closed form; 719,468 days lie between 0000-03-01 and the epoch, 146,097 in 400 years. The method is that
// of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
func civil(day uint32) (year, month, dom uint32) {
	day += 719_468
	cycle, day := day/146_097, day%146_097
	year = (day - day/1460 + day/36_524 - day/146_096) / 365
	day -= 365*year + year/4 - year/100
	march := (5*day + 2) / 153
	dom = day - (153*march+2)/5 + 1
	month = march + 3
	year += 400 * cycle
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, dom
}
