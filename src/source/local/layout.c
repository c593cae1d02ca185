/*
 * layout.c
 *	  Where a local stream's rows are: its hidden tables and their columns.
 *
 * A local stream is a foreign table without a server.  Its rows are in three
 * ordinary tables in schema pipeline_data, which take turns (trim.c), with the
 * columns era, xid, seq, inserted_at and then those of the stream (metadata
 * columns stay NULL there).  The stem of their names stands in the foreign
 * table's option "backing" - l_7 for l_7_0, l_7_1, l_7_2 and the sequences
 * l_7_seq and l_7_rotation - because options survive dump and restore, which
 * OIDs do not.
 *
 * Columns are matched by order: the k-th that lives here is the k-th that lives
 * there.  Names (a1, a2, ... by attribute number) would do until a dump, which
 * renumbers the foreign table's attributes and keeps the names.  Order holds
 * because every column is added at the end of both and dropped from both, also
 * by DROP TYPE ... CASCADE.
 *
 * Rights: users have none on the hidden tables; rows are read and written below
 * the level where rights are checked, after those on the foreign table were.
 * An option can be set to anything by the foreign table's owner, so tables of
 * another owner are not touched.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "foreign/foreign.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "monitor/slots.h"
#include "source/local/layout.h"
#include "source/options.h"

static bool layout_find(Oid relid, Oid owner, CqLocalLayout *layout);
static Oid hidden_relation(Oid namespace, const char *backing, const char *suffix, Oid owner);
static Oid relation_owner(Oid relid);
static void columns_match(Relation stream, Relation hidden, CqLocalColumns *columns);
static void out_of_step(Relation stream) CQ_NORETURN;

void
cq_local_layout_load(Oid relid, CqLocalLayout *layout)
{
	if (cq_local_layout_find(relid, layout))
		return;
	if (layout->backing == NULL)
	{
		cq_require_preload();
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("local stream \"%s\" has no storage", get_rel_name(relid)),
				errdetail("It was created while the library was not preloaded."),
				errhint("Drop the stream and create it again."));
	}
	ereport(
		ERROR,
		errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		errmsg("storage of local stream \"%s\" does not exist", get_rel_name(relid)),
		errdetail("The option \"backing\" names \"%s\", and its owner has no such tables in schema "
				  "pipeline_data.",
				  layout->backing),
		errhint("Restore the dump completely, or create the stream without this option."));
}

bool
cq_local_layout_find(Oid relid, CqLocalLayout *layout)
{
	return layout_find(relid, relation_owner(relid), layout);
}

bool
cq_local_layout_find_unowned(Oid relid, CqLocalLayout *layout)
{
	return layout_find(relid, InvalidOid, layout);
}

/* owner = InvalidOid: tables of anybody. */
static bool
layout_find(Oid relid, Oid owner, CqLocalLayout *layout)
{
	CqStreamOptions options;
	Oid namespace = get_namespace_oid("pipeline_data", false);
	bool complete = true;
	int i;

	cq_stream_options_parse(GetForeignTable(relid)->options, CQ_STREAM_LOCAL, &options);
	layout->relid = relid;
	layout->era = options.era;
	layout->backing = options.backing;
	if (options.backing == NULL)
		return false;
	for (i = 0; i < CQ_LOCAL_TABLES; i++)
	{
		layout->tables[i] = hidden_relation(namespace, options.backing, psprintf("%d", i), owner);
		complete &= OidIsValid(layout->tables[i]);
	}
	layout->sequence = hidden_relation(namespace, options.backing, "seq", owner);
	layout->rotation = hidden_relation(namespace, options.backing, "rotation", owner);
	return complete && OidIsValid(layout->sequence) && OidIsValid(layout->rotation);
}

static Oid
hidden_relation(Oid namespace, const char *backing, const char *suffix, Oid owner)
{
	Oid relid = get_relname_relid(psprintf("%s_%s", backing, suffix), namespace);

	if (OidIsValid(relid) && OidIsValid(owner) && relation_owner(relid) != owner)
		return InvalidOid;
	return relid;
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * The rotation sequence is read as it stands on disk: unlike a row, it need not
 * be visible to anybody's snapshot, and what it says is only a hint.
 */
int
cq_local_current_table(const CqLocalLayout *layout)
{
	Relation rel = relation_open(layout->rotation, AccessShareLock);
	Buffer buffer = ReadBuffer(rel, 0);
	Page page = BufferGetPage(buffer);
	HeapTupleHeader row;
	int64 value;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	row = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	value = ((Form_pg_sequence_data) ((char *) row + row->t_hoff))->last_value;
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return (int) (value % CQ_LOCAL_TABLES);
}

CqLocalColumns *
cq_local_columns_load(Relation stream, Relation hidden)
{
	TupleDesc desc = RelationGetDescr(stream);
	CqLocalColumns *columns = palloc0(sizeof(CqLocalColumns));
	int i;

	columns->natts = desc->natts;
	columns->hidden = palloc0(sizeof(AttrNumber) * Max(desc->natts, 1));
	columns->metadata = palloc0(sizeof(CqMetadata) * Max(desc->natts, 1));
	for (i = 0; i < desc->natts; i++)
	{
		CqColumnOptions options;
		List *defs;

		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		defs = GetForeignColumnOptions(RelationGetRelid(stream), i + 1);
		if (defs == NIL)
			continue;
		cq_column_options_parse(defs, CQ_STREAM_LOCAL, &options);
		columns->metadata[i] = options.metadata;
		columns->has_metadata |= options.metadata != CQ_METADATA_NONE;
	}
	columns_match(stream, hidden, columns);
	return columns;
}

static void
columns_match(Relation stream, Relation hidden, CqLocalColumns *columns)
{
	TupleDesc ours = RelationGetDescr(stream);
	TupleDesc theirs = RelationGetDescr(hidden);
	int j = CQ_LOCAL_FIXED_COLUMNS;
	int i;

	for (i = 0; i < ours->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(ours, i);

		if (attr->attisdropped)
			continue;
		while (j < theirs->natts && TupleDescAttr(theirs, j)->attisdropped)
			j++;
		if (j >= theirs->natts || TupleDescAttr(theirs, j)->atttypid != attr->atttypid ||
			TupleDescAttr(theirs, j)->atttypmod != attr->atttypmod)
			out_of_step(stream);
		columns->hidden[i] = ++j;
	}
	for (; j < theirs->natts; j++)
		if (!TupleDescAttr(theirs, j)->attisdropped)
			out_of_step(stream);
}

static void
out_of_step(Relation stream)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("storage of local stream \"%s\" does not have the stream's columns",
				   RelationGetRelationName(stream)),
			errdetail("The columns were changed in a way that did not reach it, as through a "
					  "parent table."),
			errhint("Any ALTER FOREIGN TABLE of the stream's own definition brings the storage up "
					"to date."));
}

Oid
cq_local_index(Relation hidden)
{
	List *indexes = RelationGetIndexList(hidden);
	Oid found = InvalidOid;
	ListCell *lc;

	foreach (lc, indexes)
	{
		HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index form;

		if (!HeapTupleIsValid(tuple))
			continue;
		form = (Form_pg_index) GETSTRUCT(tuple);
		if (form->indisvalid && form->indnkeyatts == 3 && form->indkey.values[0] == CQ_LOCAL_ERA &&
			form->indkey.values[1] == CQ_LOCAL_XID && form->indkey.values[2] == CQ_LOCAL_SEQ)
			found = lfirst_oid(lc);
		ReleaseSysCache(tuple);
	}
	list_free(indexes);
	if (!OidIsValid(found))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("hidden table \"%s\" of a local stream has no index on (era, xid, seq)",
					   RelationGetRelationName(hidden)),
				errhint("Create it: CREATE INDEX ON pipeline_data.%s (era, xid, seq);",
						RelationGetRelationName(hidden)));
	return found;
}

/* A timestamp without zone counts as UTC, so both types have the same representation. */
Datum
cq_local_metadata_value(CqMetadata metadata, Oid type, int64 seq, int64 inserted_at)
{
	switch (metadata)
	{
		case CQ_METADATA_OFFSET:
			return Int64GetDatum(seq);
		case CQ_METADATA_TIMESTAMP:
			return TimestampTzGetDatum(inserted_at);
		default:
			Assert(metadata == CQ_METADATA_PARTITION);
			return type == INT8OID ? Int64GetDatum(0) : Int32GetDatum(0);
	}
}
