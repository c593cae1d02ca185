/*
 * headers.c
 *	  What only librdkafka's message knows of a record.
 */
#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "source/source.h"

int32
cq_kafka_record_partition(const CqRecord *record)
{
	return ((const rd_kafka_message_t *) record->native)->partition;
}

int
cq_kafka_record_headers(const CqRecord *record, const char ***names, const char ***values,
						Size **value_lens)
{
	rd_kafka_headers_t *headers;
	rd_kafka_resp_err_t error = rd_kafka_message_headers(record->native, &headers);
	size_t count;
	size_t i;

	*names = NULL;
	*values = NULL;
	*value_lens = NULL;
	if (error == RD_KAFKA_RESP_ERR__NOENT)
		return 0;
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		ereport(ERROR,
				errcode(ERRCODE_DATA_EXCEPTION),
				errmsg("cannot read the headers of a record"),
				errdetail("The client library says: %s.", rd_kafka_err2str(error)));

	count = rd_kafka_header_cnt(headers);
	*names = palloc(sizeof(char *) * (count + 1));
	*values = palloc(sizeof(char *) * (count + 1));
	*value_lens = palloc(sizeof(Size) * (count + 1));
	for (i = 0; i < count; i++)
	{
		const void *value;
		size_t len;

		error = rd_kafka_header_get_all(headers, i, &(*names)[i], &value, &len);
		if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
			elog(ERROR, "header %zu of a record's %zu cannot be read", i, count);
		(*values)[i] = value;
		(*value_lens)[i] = len;
	}
	return (int) count;
}
