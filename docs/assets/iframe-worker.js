/* Search without a server: browsers start no Worker on a page that is a local file, so this one runs
   its script in a hidden frame. */
if (location.protocol === "file:") {
  const prepare = () => {
    window.receive = window.postMessage.bind(window);
    window.postMessage = (data) => parent.postMessage(data, "*");
    const load = (url) =>
      new Promise((resolve, reject) => {
        const script = document.createElement("script");
        Object.assign(script, { src: url, onload: resolve, onerror: reject });
        document.head.append(script);
      });
    window.importScripts = (...urls) =>
      urls.reduce((earlier, url) => earlier.then(() => load(url)), Promise.resolve());
  };

  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = `<script>(${prepare})()</script><script src="${new URL(url, document.baseURI)}"></script>`;
      this.frame = new Promise((resolve) => {
        frame.onload = () => resolve(frame.contentWindow);
      });
      window.addEventListener("message", (event) => {
        if (event.source !== frame.contentWindow) return;
        const message = new MessageEvent("message", { data: event.data });
        this.onmessage?.(message);
        this.dispatchEvent(message);
      });
      document.body.append(frame);
    }

    postMessage(data) {
      this.frame.then((frame) => frame.receive(data, "*"));
    }
  };
}
