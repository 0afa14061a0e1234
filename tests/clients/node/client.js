#!/usr/bin/env node
/*
 * An application of eventstore: Node with pg.
 *
 *     client.js reserve SHOW WHO..        decide upon a stream, append, retry
 *     client.js tail FILE [TYPE..]        follow the log, and remember where one is
 *     client.js consume NAME              one of several consumers of a subscription
 *     client.js book SHOW WHO             a command, then a query that sees what it did
 *
 * The database is named by PGHOST, PGDATABASE and so on, the schema and category by
 * CATEGORY; ../setup.sql creates what is needed there.  All of it also works behind
 * PgBouncer in transaction mode.
 */
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const { setTimeout: sleep } = require('timers/promises');
const pg = require('pg');

const CATEGORY = process.env.CATEGORY ?? 'Show';
const PAGE = 500;

// Versions and positions are bigints.  As strings, which is pg's default, '10' < '9'.
pg.types.setTypeParser(pg.types.builtins.INT8, BigInt);

// Statements without a name: behind PgBouncer the next one may reach another backend, which
// knows nothing of statements prepared before.
const pool = new pg.Pool({ max: 4 });
pool.on('error', () => {});     // an idle connection was lost: the pool makes a new one

// Was the connection lost, so that nobody knows what became of the call?  What the server
// says has an SQLSTATE in .code; these are of its own end, and of PgBouncer's connections.
function lost(error) {
    if (error instanceof pg.DatabaseError)
        return /^(08|57P)/.test(error.code);
    return error.syscall !== undefined || /^(Connection terminated|Client has encountered)/.test(error.message);
}

// The rows.  If the connection is lost, nobody knows what became of the statement: so each one
// here is such that it may be run twice, and is sent again, for half a minute.
async function ask(text, values) {
    for (let attempt = 1; ; attempt++) {
        try {
            return (await pool.query(text, values)).rows;
        } catch (error) {
            if (!lost(error) || attempt === 60)
                throw error;
            await sleep(attempt === 1 ? 0 : 500);
        }
    }
}

// An event id that rises with time, as an index likes it.
function uuid7() {
    const bytes = crypto.randomBytes(16);
    bytes.writeUIntBE(Date.now(), 0, 6);
    bytes[6] = bytes[6] & 0x0f | 0x70;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

// ---- commands ----

// Appends an event to a stream at that version: version, position, duplicate.
//
// If the connection is lost, the same call with the same event id is sent again: it stores the
// event, or says where it stands.  Not to read and decide again: that would mistake one's own
// event for another's.
async function append(stream, version, eventId, type, data) {
    const [appended] = await ask(
        `SELECT version, position, duplicate
         FROM es_append($1, $2, $3, expected_version => $4, event_id => $5)`,
        [stream, type, JSON.stringify(data), version, eventId]);
    return appended;
}

// The rule: a seat each, as long as there are seats.  The event to append, or null.
function decide(events, who) {
    let seats = 0;
    for (const { type, data } of events) {
        if (type === 'ShowAnnounced')
            seats = data.seats;
        else if (type === 'SeatReserved')
            seats--;
    }
    return seats > 0 ? ['SeatReserved', { who }] : null;
}

// Reserves a seat: what was appended or null, and the retries.
async function reserve(show, who) {
    const eventId = uuid7();    // of the command, however often it is tried
    for (let retries = 0; ; retries++) {
        const events = await ask('SELECT version, type, data FROM es_read_stream($1)', [show]);
        const decision = decide(events, who);
        if (decision === null)
            return { appended: null, retries };
        const version = events.at(-1)?.version ?? 0n;
        try {
            return { appended: await append(show, version, eventId, ...decision), retries };
        } catch (error) {
            // SE001: somebody else has appended since we read.  Another state, so perhaps
            // another decision.
            if (error.code !== 'SE001')
                throw error;
        }
    }
}

async function reserveAll(show, ...names) {
    for (const who of names) {
        const { appended, retries } = await reserve(show, who);
        if (appended)
            console.log(who, String(appended.version), String(appended.position),
                appended.duplicate ? 'duplicate' : 'stored', retries);
        else
            console.log(who, 'sold-out', retries);
    }
}

// ---- a tail ----

// Replaces the file at once: a crash leaves the old one or the new one.
function remember(file, position, epoch) {
    const copy = fs.openSync(`${file}.new`, 'w');
    fs.writeSync(copy, JSON.stringify({ position: String(position), epoch }));
    fs.fsyncSync(copy);
    fs.closeSync(copy);
    fs.renameSync(`${file}.new`, file);
}

// Prints the events of the log, from where the file says on.
//
// What was handled is remembered afterwards, page by page: after a crash, the events of one
// page are handled again.
async function tail(file, ...types) {
    const remembered = fs.existsSync(file)
        ? JSON.parse(fs.readFileSync(file, 'utf8')) : { position: 0, epoch: null };
    let position = BigInt(remembered.position);
    for (;;) {
        // Another epoch is another history (a restore, a failover): it may lack events that
        // we have handled.
        const [{ epoch }] = await ask('SELECT es_epoch() AS epoch');
        if (![null, epoch].includes(remembered.epoch))
            throw new Error('this is not the log that was followed before');
        // Before the page, for what it is needed for below.
        const [{ head }] = await ask('SELECT es_head() AS head');
        const page = await ask(
            `SELECT position, stream, type, data
             FROM es_read_all($1, $2, types => $3, wait => '2 s')`,
            [position, PAGE, types.length ? types : null]);
        for (const event of page)
            console.log(String(event.position), event.stream, event.type);
        const before = position;
        if (page.length)
            position = page.at(-1).position;
        // A short page: there was nothing else for us up to that head.  Without this, a tail
        // of rare types would look at the same part of the log for ever.
        if (page.length < PAGE && head > position)
            position = head;
        if (position > before) {
            remember(file, position, epoch);
            remembered.epoch = epoch;
        }
    }
}

// ---- a competing consumer ----

// Does what has to be done for an event, once: the id tells that it was done before.
//
// Here the table stands for the world outside.  What accepts a key of ours (a payment, a queue,
// a mail with a Message-ID) is given the event's id in the same way.
async function sendTicket(consumer, event) {
    if (!event.data.who)
        throw new RangeError('a ticket for nobody');
    const inserted = await ask(
        `INSERT INTO "${CATEGORY}".ticket (event_id, show, version, who, sent_by)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (event_id) DO NOTHING RETURNING true`,
        [event.event_id, event.stream, event.version, event.data.who, consumer]);
    return inserted.length > 0;
}

// Fetch, handle, acknowledge.  The name must not be that of another process.
async function consume(consumer) {
    for (;;) {
        const events = await ask(
            `SELECT position, stream, version, data, event_id
             FROM es_fetch($1, $2, 100, wait => '5 s')`, [CATEGORY, consumer]);
        try {
            await handle(consumer, events);
        } catch (error) {
            // 55000: we took longer than ack_timeout, and others have these events now.  No
            // harm: they find the tickets sent.
            if (error.code !== '55000')
                throw error;
            console.log('late');
        }
    }
}

async function handle(consumer, events) {
    const done = [];
    const failed = new Set();
    for (const event of events) {
        // es_nack has taken back the later events of the stream: they come again, after the
        // one that failed.
        if (failed.has(event.stream))
            continue;
        try {
            const sent = await sendTicket(consumer, event);
            done.push(event.position);
            console.log(sent ? 'sent' : 'known', String(event.position));
        } catch (error) {
            if (!(error instanceof RangeError))
                throw error;
            failed.add(event.stream);
            await ask(`SELECT es_nack($1, $2, $3, 'retry', $4)`,
                [CATEGORY, consumer, [event.position], error.message]);
            console.log('failed', String(event.position));
        }
    }
    if (done.length)
        await ask('SELECT es_ack($1, $2, $3)', [CATEGORY, consumer, done]);
}

// ---- a command, then a query ----

// What the read model says, once it has come to a position; else what it says, and that.
async function seatsLeft(show, position) {
    let caughtUp = false;
    try {
        [{ caughtUp }] = await ask(
            `SELECT es_wait_for_projection($1, $2, timeout => '1 s') AS "caughtUp"`,
            [CATEGORY, position]);
    } catch (error) {
        // SE005: the projection is stopped by an error.  Old data are better than none.
        if (error.code !== 'SE005')
            throw error;
    }
    const [row] = await ask(`SELECT seats_left FROM "${CATEGORY}".seats WHERE show = $1`, [show]);
    return { seats_left: row ? Number(row.seats_left) : null, may_be_stale: !caughtUp };
}

async function book(show, who) {
    const { appended } = await reserve(show, who);
    console.log(JSON.stringify(await seatsLeft(show, appended?.position ?? null)));
}

const commands = { reserve: reserveAll, tail, consume, book };

async function main() {
    const [command, ...words] = process.argv.slice(2);
    if (!Object.hasOwn(commands, command ?? ''))
        throw new Error(`commands: ${Object.keys(commands).join(', ')}`);
    await commands[command](...words);
    await pool.end();
}

main().catch(error => {
    console.error(error.message);
    process.exit(1);
});
