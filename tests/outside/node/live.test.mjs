// The WebSocket with Node's `ws`: subscribe, replay, resume.
import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import WebSocket from 'ws';

const { WS_URL, HTTP_URL, TOKEN, WEBHOOK_SECRET } = process.env;

async function webhook(route, payload) {
  const body = JSON.stringify(payload);
  const at = Math.floor(Date.now() / 1000);
  const v0 = createHmac('sha256', WEBHOOK_SECRET).update(`${at}.${body}`).digest('hex');
  const answer = await fetch(`${HTTP_URL}/webhooks/elevenlabs/${route}`, {
    method: 'POST',
    headers: { 'ElevenLabs-Signature': `t=${at},v0=${v0}`, 'Idempotency-Key': randomUUID() },
    body,
    signal: AbortSignal.timeout(15_000),
  });
  assert.ok(answer.ok, `${answer.status} ${await answer.clone().text()}`);
  return answer.json();
}

const say = (call_sid, message) => webhook('transcription', { call_sid, speaker: 'agent', message });

const end = (conversation_id, call_sid) => webhook('post-call', {
  type: 'post_call_transcription',
  event_timestamp: 1794300000,
  data: {
    agent_id: 'agent_node', conversation_id, status: 'done', transcript: [],
    metadata: { start_time_unix_secs: 1794299000, call_duration_secs: 10, phone_call: { type: 'twilio', call_sid } },
  },
});

// A subscriber whose messages are read one by one, each within a deadline.
async function open(options = {}) {
  const socket = new WebSocket(options.url ?? WS_URL, options.protocols ?? [], {
    headers: options.anonymous ? {} : { Authorization: `Bearer ${TOKEN}` },
  });
  const inbox = [];
  const waiting = [];
  socket.on('message', (data, binary) => {
    assert.equal(binary, false);
    const message = JSON.parse(data);
    waiting.length ? waiting.shift()(message) : inbox.push(message);
  });
  await within(new Promise((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
  }));
  const next = () => (inbox.length ? Promise.resolve(inbox.shift()) : within(new Promise((r) => waiting.push(r))));
  const take = async (count) => {
    const messages = [];
    while (messages.length < count) messages.push(await next());
    return messages;
  };
  const subscribe = async (id, fields = {}) => {
    socket.send(JSON.stringify({ subscribe: id, ...fields }));
    const confirmed = await next();
    assert.equal(confirmed.type, 'subscription_confirmed', JSON.stringify(confirmed));
    return confirmed;
  };
  const close = () => within(new Promise((resolve) => {
    socket.once('close', resolve);
    socket.close(1000);
  }));
  return { socket, next, take, subscribe, close };
}

function within(promise, ms = 15_000) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const unique = (stem) => `${stem}_${randomUUID().replaceAll('-', '')}`;

test('history, live, and the end of a call', async () => {
  const [sid, conv] = [unique('sid'), unique('conv')];
  await say(sid, 'One.');
  await say(sid, 'Zwei – größer 🚚');
  const client = await open();
  const confirmed = await client.subscribe(sid);
  assert.equal(confirmed.seq, 2);
  await say(sid, 'Three.');
  await end(conv, sid);
  const messages = await client.take(5);
  assert.deepEqual(messages.map((m) => m.type),
    ['transcription', 'transcription', 'transcription', 'call_status', 'call_completed']);
  assert.deepEqual(messages.map((m) => m.seq), [1, 2, 3, 4, 5]);
  assert.equal(messages[1].message_text, 'Zwei – größer 🚚');
  assert.equal(messages[4].call_data.status, 'completed');
  assert.equal(await client.close(), 1000);
});

test('resuming by cursor delivers the rest once', async () => {
  const sid = unique('sid');
  for (let i = 1; i <= 20; i += 1) await say(sid, `line ${i}`);
  const first = await open();
  const { call_id } = await first.subscribe(sid);
  const got = await first.take(7);
  first.socket.terminate();
  const second = await open();
  await second.subscribe(sid, { after: got.at(-1).seq, call_id });
  await say(sid, 'line 21');
  got.push(...await second.take(14));
  assert.deepEqual(got.map((m) => m.seq), Array.from({ length: 21 }, (_, i) => i + 1));
  assert.deepEqual(got.map((m) => m.message_text), Array.from({ length: 21 }, (_, i) => `line ${i + 1}`));
  second.socket.send(JSON.stringify({ subscribe: sid, after: 22, call_id }));
  assert.equal((await second.next()).code, 'CURSOR_INVALID');
  await second.close();
});

test('the token in the subprotocol, as a browser sends it', async () => {
  const client = await open({ anonymous: true, protocols: ['callscope.v1', `bearer.${TOKEN}`] });
  assert.equal(client.socket.protocol, 'callscope.v1');
  client.socket.send(JSON.stringify({ ping: { at: 1 } }));
  assert.deepEqual(await client.next(), { type: 'pong', ping: { at: 1 } });
  await client.close();
});

test('no token, no upgrade', async () => {
  const socket = new WebSocket(WS_URL);
  socket.on('error', () => {});
  const status = await within(new Promise((resolve) => {
    socket.once('unexpected-response', (request, answer) => {
      resolve(answer.statusCode);
      request.destroy();
    });
  }));
  assert.equal(status, 401);
});

test('pings of the WebSocket itself are answered', async () => {
  const client = await open();
  const pong = within(new Promise((resolve) => client.socket.once('pong', (data) => resolve(data.toString()))));
  client.socket.ping('are you there');
  assert.equal(await pong, 'are you there');
  await client.close();
});
