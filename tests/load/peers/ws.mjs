// Fan-out with Node's `ws`: a Map of topic -> Set of sockets. Usage: node ws.mjs PORT
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const topics = new Map();
const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const message = Buffer.concat(chunks);
    const sockets = topics.get(request.url.slice("/pub/".length)) ?? [];
    for (const socket of sockets) socket.send(message, { binary: false });
    response.writeHead(202, { "Content-Length": 2 });
    response.end("ok");
  });
});
server.keepAliveTimeout = 60_000;
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
sockets.on("connection", (socket, request) => {
  const topic = request.url.slice("/sub/".length);
  if (!topics.has(topic)) topics.set(topic, new Set());
  topics.get(topic).add(socket);
  socket.on("close", () => topics.get(topic).delete(socket));
  socket.on("error", () => socket.terminate());
});
process.on("SIGTERM", () => process.exit(0));
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
