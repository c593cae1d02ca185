/*
 * proposal.h
 *	  From a sample of a topic's records to the definition of a stream.
 */
#pragma once

#include "postgres.h"

#include "nodes/pg_list.h"

#include "infer/sample.h"
#include "infer/values.h"

typedef struct CqProposedColumn
{
	char *name;
	const char *type;
	const char *field; /* value of the option of this name, or NULL; as the following */
	const char *metadata;
	const char *time_format;
	char *generated;		/* its expression, or NULL */
	char *remark;			/* or NULL */
	const CqValues *values; /* NULL for metadata */
	bool is_time;
	int depth; /* of the field in the document: 1 = top */
} CqProposedColumn;

/* What the caller has decided, and where the records are from. */
typedef struct CqProposalRequest
{
	const char *server;
	const char *topic;
	const char *schema;		   /* NULL = not named */
	const char *table;		   /* NULL = after the topic */
	const char *event_time;	   /* column to take if it can be; NULL = choose */
	int64 out_of_orderness_us; /* -1 = as measured */
} CqProposalRequest;

typedef struct CqProposal
{
	const CqProposalRequest *request;
	const CqSample *sample;
	const char *format;
	const char *nothing;	   /* why the records say nothing; a phrase, or NULL */
	List *columns;			   /* of CqProposedColumn */
	List *options;			   /* more options of the table: DefElems with strings */
	char *event_time;		   /* name of a column, NULL = none */
	int64 out_of_orderness_us; /* -1 = none is needed */
	List *remarks;			   /* sentences about all of it */
	int nvalues;			   /* records that have one */
	int nread;				   /* of them, those that the definition reads */
	bool *read;				   /* by record */
} CqProposal;

/* Find out what the records have in common. */
extern CqProposal *cq_proposal_make(const CqProposalRequest *request, const CqSample *sample);

/* The CREATE FOREIGN TABLE statement, with comments. */
extern char *cq_proposal_statement(const CqProposal *proposal);

/* Name for a table that holds this topic. */
extern char *cq_proposal_table_name(const char *topic);

/* Add a sentence to the remarks. */
extern void cq_proposal_remark(CqProposal *proposal, const char *format, ...)
	pg_attribute_printf(2, 3);

/* Add a column, with a name like this one that no other column has. */
extern CqProposedColumn *cq_proposal_column(CqProposal *proposal, const char *name,
											const char *type);

/*
 * Parts, one file each.  json, csv: false if the records are not of this
 * format.
 */
extern bool cq_proposal_json(CqProposal *proposal);
extern bool cq_proposal_csv(CqProposal *proposal);
extern void cq_proposal_raw(CqProposal *proposal);
extern void cq_proposal_event_time(CqProposal *proposal);

/* names.c: an identifier made of a key or the like, in the server's encoding */
extern char *cq_name_from(const char *key);

/* Text in UTF-8 in the server's encoding; NULL if it cannot be. */
extern char *cq_text_from_utf8(const char *text, int len);
