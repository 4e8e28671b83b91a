// Says in words why the page does not start: this file works where WebAssembly does not.
(() => {
  const show = (words) => {
    if (document.body.dataset.ready) return;
    document.getElementById("failure-words").textContent = words;
    document.getElementById("failure").hidden = false;
  };
  if (typeof WebAssembly !== "object") {
    show("This browser has no WebAssembly, or it is switched off (some browsers do so in a strict security mode). The engine runs as WebAssembly: please allow it for this page, or use another browser.");
    return;
  }
  const failed = (reason) =>
    show(`The engine did not start: ${reason}. Reload the page; if that does not help, the files on the server may be incomplete, or a security setting blocks WebAssembly.`);
  addEventListener("unhandledrejection", (event) => failed(event.reason?.message ?? event.reason));
  addEventListener("error", (event) => failed(event.message ?? "a file is missing"), true);
  setTimeout(() => show("The engine is still loading. On a slow connection this can take a while; otherwise reload the page."), 20000);
})();
