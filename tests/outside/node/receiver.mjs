// A webhook endpoint that verifies with the vendor's Node SDK. It prints what came, as one JSON document per line.
import { createServer } from 'node:http';
import { ElevenLabsClient } from '@elevenlabs/elevenlabs-js';

const { webhooks } = new ElevenLabsClient({ apiKey: 'none' });

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString('utf8');
  const header = request.headers['elevenlabs-signature'] ?? '';
  try {
    const event = await webhooks.constructEvent(body, header, process.env.WEBHOOK_SECRET);
    console.log(JSON.stringify({ accepted: true, type: event.type ?? 'turn', path: request.url }));
    response.writeHead(200).end('{"status":"success"}');
  } catch (error) {
    console.log(JSON.stringify({ accepted: false, reason: String(error.message), path: request.url }));
    response.writeHead(401).end('{"status":"error","message":"refused"}');
  }
}).listen(0, '127.0.0.1', function listening() {
  console.log(JSON.stringify({ port: this.address().port }));
});
