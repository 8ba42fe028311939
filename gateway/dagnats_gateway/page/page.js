// Draws the API page from /openapi.json: the list of operations, and a section for each.

import { requestPanel } from "./console.js";
import { h, inline, prose } from "./dom.js";
import { Schemas } from "./schema.js";

const METHODS = ["get", "post", "put", "delete"];

function operationsOf(api) {
  const found = [];
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const operation = item[method];
      const [, success] = Object.entries(operation.responses).find(([status]) => status < 300);
      found.push({ parameters: [], ...operation, path, method, success });
    }
  }
  return found;
}

const badge = (method) => h("span", { class: `method ${method}` }, method === "delete" ? "DEL" : method.toUpperCase());
const pathText = (path) => path.split(/(\{\w+\})/).map((part) => (part.startsWith("{") ? h("i", {}, part) : part));

function section(operation, api, schemas) {
  const own = operation["x-dagnats"] ?? {};
  const chips = [
    own.cli ? h("code", { class: "chip" }, own.cli) : "",
    own.role ? h("span", { class: "chip", title: "the least role that may do this" }, own.role) : "",
    own.mutating ? h("span", { class: "chip changes" }, "changes state") : "",
  ];
  const words = operation.description && operation.description !== operation.summary ? prose(operation.description) : "";
  return h("section", { id: operation.operationId, class: "operation" },
    h("div", { class: "text" },
      h("h3", {}, h("a", { href: `#${operation.operationId}` }, operation.summary)),
      h("div", { class: "path" }, badge(operation.method), h("code", {}, pathText(operation.path))),
      h("div", { class: "chips" }, chips),
      words,
      parameters(operation, schemas),
      requestBody(operation, schemas),
      responses(operation, api, schemas)),
    requestPanel(operation, schemas));
}

function parameters(operation, schemas) {
  const groups = ["path", "query", "header"].map((place) => {
    const own = operation.parameters.filter((parameter) => parameter.in === place);
    if (!own.length) return "";
    const rows = own.map((each) => schemas.field(each.name, each.schema, each.required, 0, each.description));
    return [h("h4", {}, { path: "In the path", query: "In the query", header: "In a header" }[place]), h("div", { class: "fields" }, rows)];
  });
  return groups;
}

function requestBody(operation, schemas) {
  if (!operation.requestBody) return "";
  const contents = Object.entries(operation.requestBody.content).map(([media, content]) => [
    h("h4", {}, "Body ", h("small", {}, media, operation.requestBody.required ? "" : ", optional")),
    schemas.whole(content.schema),
  ]);
  return contents;
}

function responses(operation, api, schemas) {
  const all = Object.entries(operation.responses).map(([status, response]) =>
    [status, response.$ref ? api.components.responses[response.$ref.split("/").pop()] : response]);
  const good = all.filter(([status]) => status < 300).map(([status, response]) => answer(status, response, schemas));
  const bad = all.filter(([status]) => status >= 300);
  const chips = bad.map(([status, { description }]) => h("span", { class: "status bad", title: description }, status));
  return [h("h4", {}, "Answers"), good,
    h("details", { class: "response" }, h("summary", {}, chips), bad.map(([status, response]) => answer(status, response, schemas)))];
}

function answer(status, response, schemas) {
  const kind = status < 300 ? "good" : "bad";
  return h("details", { class: "response" },
    h("summary", {}, h("span", { class: `status ${kind}` }, status), h("span", {}, inline(response.description))),
    Object.entries(response.content ?? {}).map(([media, { schema }]) => [h("small", {}, media), schemas.whole(schema)]));
}

function drawNavigation(groups) {
  const list = document.getElementById("operations");
  for (const [tag, operations] of groups) {
    list.append(h("div", { class: "group" }, h("h5", {}, tag), operations.map((operation) =>
      h("a", { href: `#${operation.operationId}`, "data-words": `${operation.method} ${operation.path} ${operation.summary} ${operation["x-dagnats"]?.cli ?? ""}`.toLowerCase() },
        badge(operation.method), h("span", { class: "where" }, pathText(operation.path))))));
  }
  const search = document.getElementById("search");
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const group of list.children) {
      const links = [...group.querySelectorAll("a")];
      for (const link of links) link.hidden = !words.every((word) => link.dataset.words.includes(word));
      group.hidden = links.every((link) => link.hidden);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, textarea, select")) return;
    event.preventDefault();
    search.focus();
  });
}

function followScroll() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      for (const link of links.values()) link.classList.toggle("here", link === links.get(entry.target.id));
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const each of document.querySelectorAll("section.operation")) observer.observe(each);
}

async function showSite() {
  const site = document.getElementById("site");
  try {
    const health = await fetch("/health");
    site.classList.add(health.ok ? "good" : "bad");
    site.textContent = health.ok ? "healthy" : (await health.json()).reason;
    const info = await fetch("/system/info");
    if (info.ok) site.textContent = `site ${(await info.json()).site} · ${site.textContent}`;
  } catch {
    site.classList.add("bad");
    site.textContent = "the gateway does not answer";
  }
}

async function draw() {
  const api = await (await fetch("/openapi.json")).json();
  const schemas = new Schemas(api.components.schemas);
  const operations = operationsOf(api);
  const groups = api.tags.map(({ name }) => [name, operations.filter((each) => each.tags.includes(name))]);
  document.getElementById("version").textContent = `v${api.info.version}`;
  drawNavigation(groups);
  document.getElementById("main").replaceChildren(
    h("div", { class: "intro" }, h("h1", {}, `${api.info.title} API`), prose(api.info.description)),
    ...groups.flatMap(([tag, own]) => [h("h2", {}, tag), ...own.map((each) => section(each, api, schemas))]));
  followScroll();
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  await showSite();
}

draw();
