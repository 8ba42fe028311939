// The panel beside an operation: a form for its request, the same as a curl command, and the answer.

import { coloured, h } from "./dom.js";

const STREAM = "text/event-stream";

export function requestPanel(operation, schemas) {
  const inputs = operation.parameters.map((parameter) => ({ parameter, input: inputOf(parameter) }));
  const bodies = Object.entries(operation.requestBody?.content ?? {});
  const media = selectOf(bodies.map(([name]) => name), "Content-Type");
  const accept = selectOf(Object.keys(operation.success.content), "Accept");
  const body = bodies.length ? h("textarea", { rows: 7, spellcheck: "false", "aria-label": "Request body" }) : null;
  const curl = h("pre", { class: "curl" });
  const answer = h("div", { class: "answer", "aria-live": "polite" });
  const send = h("button", { type: "submit", class: "send" }, "Send");
  let stop = null;

  const request = () => requestOf(operation, inputs, body, media.value, accept.value);
  const refresh = () => curl.replaceChildren(curlOf(request()));
  const fill = () => {
    if (!body) return;
    const content = operation.requestBody.content[media.value];
    const value = content.example ?? (media.value.includes("json") ? schemas.sample(content.schema) : null);
    body.value = value == null ? "" : JSON.stringify(value, null, 2);
    refresh();
  };
  media.addEventListener("change", fill);
  const onsubmit = async (event) => {
    event.preventDefault();
    if (stop) return stop.abort();
    stop = new AbortController();
    send.textContent = "Stop";
    await ask(request(), answer, stop.signal);
    stop = null;
    send.textContent = "Send";
  };
  const label = ({ parameter, input }) =>
    h("label", {}, h("span", { class: parameter.required ? "must" : "" }, parameter.name), input);
  const form = h("form", { class: "request", oninput: refresh, onsubmit },
    h("div", { class: "panel-head" }, h("b", {}, "Request"), accept.options.length > 1 ? accept : "",
      media.options.length > 1 ? media : "", h("span", { class: "space" }), send),
    inputs.length ? h("div", { class: "inputs" }, inputs.map(label)) : "", body ?? "", curl);
  fill();
  refresh();
  return h("div", { class: "panel" }, form, answer);
}

function inputOf({ name, schema }) {
  if (schema.enum || schema.type === "boolean") {
    const values = schema.enum ?? [true, false];
    return h("select", {}, h("option", { value: "" }, ""), values.map((value) => h("option", {}, String(value))));
  }
  const placeholder = schema.default != null ? String(schema.default) : schema.type === "integer" ? "number" : "";
  return h("input", { name, placeholder, autocomplete: "off", spellcheck: "false" });
}

function selectOf(values, name) {
  return h("select", { "aria-label": name, title: name }, values.map((value) => h("option", {}, value)));
}

function requestOf(operation, inputs, body, contentType, accept) {
  let path = operation.path;
  const query = new URLSearchParams();
  const headers = {};
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value) || `{${parameter.name}}`);
    else if (!input.value) continue;
    else if (parameter.in === "query") query.append(parameter.name, input.value);
    else headers[parameter.name] = input.value;
  }
  if (accept === STREAM) headers.Accept = accept;
  if (body?.value) headers["Content-Type"] = contentType;
  const url = location.origin + path + (query.size ? `?${query}` : "");
  return { method: operation.method.toUpperCase(), url, headers, body: body?.value || undefined };
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function curlOf({ method, url, headers, body }) {
  const stream = headers.Accept === STREAM ? "-N " : "";
  const parts = [`curl ${stream}${method === "GET" ? "" : `-X ${method} `}${quoted(url)}`];
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body) parts.push(`--data-binary ${quoted(body)}`);
  return parts.join(" \\\n  ");
}

async function ask({ method, url, headers, body }, answer, signal) {
  const started = performance.now();
  const output = h("pre", {});
  const head = h("div", { class: "panel-head" }, "…");
  answer.replaceChildren(head, output);
  try {
    const response = await fetch(url, { method, headers, body, signal });
    const kind = response.ok ? "good" : "bad";
    const time = `${Math.round(performance.now() - started)} ms`;
    head.replaceChildren(h("span", { class: `status ${kind}` }, `${response.status} ${response.statusText}`),
      h("span", { class: "quiet" }, time), h("span", { class: "quiet" }, response.headers.get("location") ?? ""));
    await show(response, output);
  } catch (error) {
    if (error.name === "AbortError") output.append("\n— stopped —");
    else head.replaceChildren(h("span", { class: "status bad" }, String(error)));
  }
}

async function show(response, output) {
  if (response.headers.get("content-type")?.startsWith(STREAM)) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      output.append(...coloured(piece.value));
      output.scrollTop = output.scrollHeight;
    }
    return;
  }
  const text = await response.text();
  try {
    output.replaceChildren(...coloured(JSON.stringify(JSON.parse(text), null, 2)));
  } catch {
    output.textContent = text;
  }
}
