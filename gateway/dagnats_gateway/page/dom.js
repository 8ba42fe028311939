// Elements from values. Text is always set as text, so nothing of a document can become markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== ""));
  return element;
}

// `code`, [text](link) and paragraphs: all that descriptions use.
export function prose(text) {
  return text.trim().split(/\n\s*\n/).map((paragraph) => h("p", {}, inline(paragraph.replace(/\s+/g, " "))));
}

export function inline(text) {
  return text.split(/(`[^`]+`|\[[^\]]+\]\([^)]+\))/).map((part) => {
    if (/^`.+`$/.test(part)) return h("code", {}, part.slice(1, -1));
    const link = part.match(/^\[(.+)\]\((https:[^)]+)\)$/);
    return link ? h("a", { href: link[2], rel: "noreferrer" }, link[1]) : part;
  });
}

// JSON text in colours; any other text as it is.
export function coloured(text) {
  const pattern = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    parts.push(text.slice(end, match.index));
    const kind = match[2] ? "key" : match[1] ? "text" : match[3] ? "word" : "number";
    parts.push(h("span", { class: kind }, match[1] ?? match[0]), match[2] ?? "");
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}
