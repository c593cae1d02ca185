/*
 * json_escape.c
 *	  Escapes in the strings of JSON documents.
 */
#include <string.h>

#include "decode/json.h"

static int hex4(const char *text);
static char *put_utf8(char *out, uint32_t code);

static inline bool
is_high_surrogate(int code)
{
	return code >= 0xD800 && code < 0xDC00;
}

static inline bool
is_low_surrogate(int code)
{
	return code >= 0xDC00 && code < 0xE000;
}

size_t
cq_json_check_escapes(const char *text, size_t len, const char **reason)
{
	const char *end = text + len;
	const char *p = text;

	*reason = NULL;
	while ((p = memchr(p, '\\', (size_t) (end - p))) != NULL)
	{
		const char *escape = p;
		int code;

		if (p[1] != 'u')
		{
			if (p[1] == '\0' || strchr("\"\\/bfnrt", p[1]) == NULL)
				*reason = "a string has an unknown escape";
			p += 2;
		}
		else
		{
			code = end - p < 6 ? -1 : hex4(p + 2);
			p += 6;
			if (code < 0)
				*reason = "a string has a broken \\u escape";
			else if (is_low_surrogate(code) ||
					 (is_high_surrogate(code) && (end - p < 6 || p[0] != '\\' || p[1] != 'u' ||
												  !is_low_surrogate(hex4(p + 2)))))
				*reason = "a string has half of a surrogate pair";
			else if (is_high_surrogate(code))
				p += 6;
		}
		if (*reason != NULL)
			return (size_t) (escape - text);
		if (p >= end)
			break;
	}
	return 0;
}

size_t
cq_json_unescape(const char *text, size_t len, char *out, bool *has_nul)
{
	const char *end = text + len;
	char *start = out;

	*has_nul = false;
	while (text < end)
	{
		uint32_t code;

		if (*text != '\\')
		{
			*out++ = *text++;
			continue;
		}
		text += 2;
		switch (text[-1])
		{
			case 'b':
				*out++ = '\b';
				break;
			case 'f':
				*out++ = '\f';
				break;
			case 'n':
				*out++ = '\n';
				break;
			case 'r':
				*out++ = '\r';
				break;
			case 't':
				*out++ = '\t';
				break;
			case 'u':
				code = (uint32_t) hex4(text);
				text += 4;
				if (is_high_surrogate((int) code))
				{
					code = 0x10000 + ((code - 0xD800) << 10) + ((uint32_t) hex4(text + 2) - 0xDC00);
					text += 6;
				}
				*has_nul |= code == 0;
				out = put_utf8(out, code);
				break;
			default:
				*out++ = text[-1];
		}
	}
	return (size_t) (out - start);
}

/* The value of a four-digit hexadecimal number, -1 if it is not one. */
static int
hex4(const char *text)
{
	int value = 0;
	int i;

	for (i = 0; i < 4; i++)
	{
		char c = text[i];

		value <<= 4;
		if (c >= '0' && c <= '9')
			value |= c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value |= (c | 0x20) - 'a' + 10;
		else
			return -1;
	}
	return value;
}

static char *
put_utf8(char *out, uint32_t code)
{
	if (code < 0x80)
	{
		*out++ = (char) code;
		return out;
	}
	if (code < 0x800)
		*out++ = (char) (0xC0 | code >> 6);
	else
	{
		if (code < 0x10000)
			*out++ = (char) (0xE0 | code >> 12);
		else
		{
			*out++ = (char) (0xF0 | code >> 18);
			*out++ = (char) (0x80 | (code >> 12 & 0x3F));
		}
		*out++ = (char) (0x80 | (code >> 6 & 0x3F));
	}
	*out++ = (char) (0x80 | (code & 0x3F));
	return out;
}
