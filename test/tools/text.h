/*
 * text.h
 *	  What the generators of events have in common: hashing, and writing text
 *	  without snprintf(), which alone would cost more than sending.
 */
#pragma once

#include <stdint.h>
#include <string.h>

/* A well-spread 64-bit permutation: two rounds of xor-shift and multiplication. */
static inline uint64_t
text_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 31)) * UINT64_C(0xd6e8feb86659fd93);
	x = (x ^ (x >> 29)) * UINT64_C(0xa0761d6478bd642f);
	return x ^ (x >> 32);
}

static inline char *
put_text(char *p, const char *text)
{
	size_t length = strlen(text);

	memcpy(p, text, length);
	return p + length;
}

static inline char *
put_int(char *p, int64_t value)
{
	char digits[20];
	int n = 0;

	if (value < 0)
	{
		*p++ = '-';
		value = -value;
	}
	do
	{
		digits[n++] = (char) ('0' + value % 10);
		value /= 10;
	} while (value > 0);
	while (n > 0)
		*p++ = digits[--n];
	return p;
}

static inline char *
put_digits(char *p, int64_t value, int digits)
{
	for (int i = digits - 1; i >= 0; i--)
	{
		p[i] = (char) ('0' + value % 10);
		value /= 10;
	}
	return p + digits;
}

/* Times from 1970 on only; the calendar repeats every 146097 days (400 years). */
static inline char *
put_iso(char *p, int64_t us)
{
	int64_t day = us / INT64_C(86400000000);
	int64_t rest = us % INT64_C(86400000000);
	int64_t since = day + 719468; /* days since 0000-03-01 */
	int64_t cycle = since / 146097;
	int64_t in_cycle = since % 146097;
	int64_t year = (in_cycle - in_cycle / 1460 + in_cycle / 36524 - in_cycle / 146096) / 365;
	int64_t in_year = in_cycle - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * in_year + 2) / 153; /* 0 = March */

	p = put_digits(p, cycle * 400 + year + (month >= 10), 4);
	*p++ = '-';
	p = put_digits(p, month < 10 ? month + 3 : month - 9, 2);
	*p++ = '-';
	p = put_digits(p, in_year - (153 * month + 2) / 5 + 1, 2);
	*p++ = 'T';
	p = put_digits(p, rest / INT64_C(3600000000), 2);
	*p++ = ':';
	p = put_digits(p, rest / 60000000 % 60, 2);
	*p++ = ':';
	p = put_digits(p, rest / 1000000 % 60, 2);
	*p++ = '.';
	p = put_digits(p, rest % 1000000, 6);
	*p++ = 'Z';
	return p;
}
