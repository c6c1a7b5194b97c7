/// The script of the pages about runs: curves, live ones too, parallel coordinates, tables that sort.
///
/// It draws SVG, asks nothing of other machines, and takes every text as text.
enum RunScript {
    static let text = #"""
        'use strict';
        const NS = 'http://www.w3.org/2000/svg', COLORS = ['#2563eb','#e8590c','#2b8a3e','#9c36b5','#c2255c','#0c8599','#a67c00','#495057','#5f3dc4','#d9480f'];
        const color = i => COLORS[i % COLORS.length];
        function node(name, attributes, parent, text) {
          const made = document.createElementNS(NS, name);
          for (const key in attributes) made.setAttribute(key, attributes[key]);
          if (text !== undefined) made.textContent = text;
          if (parent) parent.appendChild(made);
          return made;
        }
        // mlflow's client sends an infinity as the largest number.
        const HUGE = 1.79e308;
        function short(v) {
          if (typeof v !== 'number') return v === 'inf' ? '∞' : v === '-inf' ? '−∞' : String(v);
          const a = Math.abs(v);
          if (a >= HUGE) return v > 0 ? '∞' : '−∞';
          if (Number.isInteger(v) && a < 2 ** 53) return String(v);
          if (a >= 1e6 || a < 1e-3) return v.toExponential(2);
          // With more digits where five would make a whole number of it.
          for (let digits = 5; digits < 17; digits++) { const said = +v.toPrecision(digits); if (!Number.isInteger(said)) return String(said); }
          return String(v);
        }
        // A tick's text, with the digits that tell it from the next.
        function mark(t, all) {
          const step = all.length > 1 ? all[1] - all[0] : 0, size = Math.abs(t);
          if (!(step > 0) || size < step) return short(t);
          const digits = Math.min(16, Math.ceil(Math.log10(size / step) + 1.001));
          return digits <= 3 ? short(t) : size < 1e-3 || size >= 1e15 ? t.toExponential(digits - 1) : String(+t.toPrecision(digits));
        }
        function ticks(low, high, count) {
          if (!(high > low)) return [low];
          const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
          const step = [1, 2, 2.5, 5, 10].map(f => f * power).find(s => s >= raw * .999);
          const found = [];
          for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) found.push(+t.toPrecision(12));
          return found;
        }
        // series: [{name, color, points: [[step, milliseconds, value], …]}]
        function drawChart(svg, series, options) {
          svg.replaceChildren();
          const W = 460, H = 190, R = 8, T = 8, B = 22;
          svg.setAttribute('viewBox', `0 0 ${W} ${H}`);
          const byTime = options.axis === 'time', log = options.log;
          const x = p => p[3];
          // What cannot be drawn ends a piece of the curve: 0 for no number, 1 and -1 for what lies above and below everything.
          const odd = v => typeof v !== 'number' ? (v === 'inf' ? 1 : v === '-inf' ? -1 : 0)
            : v >= HUGE ? 1 : v <= -HUGE || (log && v <= 0) ? -1 : null;
          const kept = series.map(s => {
            const start = Math.min(...s.points.slice(0, 1).map(p => p[1]));
            const every = s.points.map(p => [p[0], p[1], p[2], byTime ? (p[1] - start) / 1000 : p[0]]).sort((a, b) => x(a) - x(b));
            const made = {...s, every, points: [], pieces: [[]], odd: []};
            for (const p of every) {
              const side = odd(p[2]);
              if (side === null) { made.points.push(p); made.pieces[made.pieces.length - 1].push(p); continue; }
              made.odd.push([p, side]);
              if (made.pieces[made.pieces.length - 1].length) made.pieces.push([]);
            }
            return made;
          });
          const all = kept.flatMap(s => s.points);
          if (!all.length) {
            const none = kept.some(s => s.odd.length) ? 'no finite number' : 'no numbers yet';
            node('text', {x: W / 2, y: H / 2, class: 'axis', 'text-anchor': 'middle'}, svg, none); return;
          }
          let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
          for (const s of kept) for (const p of s.every) { const u = x(p); if (u < x0) x0 = u; if (u > x1) x1 = u; }
          for (const p of all) { const v = log ? Math.log10(p[2]) : p[2]; if (v < y0) y0 = v; if (v > y1) y1 = v; }
          if (x1 === x0) { x0 -= .5; x1 += .5; }
          if (y1 === y0) { const pad = Math.abs(y0) * .05 || .5; y0 -= pad; y1 += pad; } else { const pad = (y1 - y0) * .05; y0 -= pad; y1 += pad; }
          const rows = ticks(y0, y1, 5), said = rows.map(t => log ? short(10 ** t) : mark(t, rows));
          const L = Math.max(52, 14 + 6 * Math.max(0, ...said.map(text => text.length)));
          const px = u => L + (u - x0) / (x1 - x0) * (W - L - R), py = v => H - B - (v - y0) / (y1 - y0) * (H - T - B);
          rows.forEach((t, i) => {
            node('line', {x1: L, x2: W - R, y1: py(t), y2: py(t), class: 'grid'}, svg);
            node('text', {x: L - 6, y: py(t) + 3.5, class: 'axis', 'text-anchor': 'end'}, svg, said[i]);
          });
          const columns = ticks(x0, x1, 6);
          for (const t of columns) node('text', {x: px(t), y: H - 6, class: 'axis', 'text-anchor': 'middle'}, svg, mark(t, columns) + (byTime ? ' s' : ''));
          for (const s of kept) {
            for (const piece of s.pieces) {
              const path = piece.map(p => `${px(x(p)).toFixed(1)},${py(log ? Math.log10(p[2]) : p[2]).toFixed(1)}`);
              if (path.length > 1) node('polyline', {points: path.join(' '), class: 'curve', stroke: s.color}, svg);
              if (path.length === 1 || s.points.length < 30) for (const at of path) { const [cx, cy] = at.split(','); node('circle', {cx, cy, r: 2.2, fill: s.color}, svg); }
            }
            for (const [p, side] of s.odd) {
              const at = side > 0 ? T : H - B - 6;
              node('line', {x1: px(x(p)), x2: px(x(p)), y1: at, y2: at + 6, class: 'oddity', stroke: s.color, 'stroke-width': 1.5}, svg);
            }
          }
          const cursor = node('line', {y1: T, y2: H - B, class: 'cursor', visibility: 'hidden'}, svg);
          const label = node('text', {y: T + 8, class: 'tip'}, svg);
          svg.onmousemove = event => {
            const box = svg.getBoundingClientRect(), at = x0 + ((event.clientX - box.left) / box.width * W - L) / (W - L - R) * (x1 - x0);
            let best = null;
            const says = kept.map(s => {
              const points = s.every;
              if (!points.length) return null;
              let low = 0, high = points.length - 1;
              while (low < high) { const mid = (low + high) >> 1; x(points[mid]) < at ? low = mid + 1 : high = mid; }
              if (low > 0 && Math.abs(x(points[low - 1]) - at) < Math.abs(x(points[low]) - at)) low--;
              const p = points[low];
              if (best === null || Math.abs(x(p) - at) < Math.abs(best - at)) best = x(p);
              return (kept.length > 1 ? s.name + ' ' : '') + short(p[2]);
            }).filter(Boolean);
            cursor.setAttribute('visibility', 'visible'); cursor.setAttribute('x1', px(best)); cursor.setAttribute('x2', px(best));
            label.textContent = `${short(best)}${byTime ? ' s' : ''}: ${says.slice(0, 4).join(' · ')}`;
            const left = px(best) < W / 2;
            label.setAttribute('x', left ? px(best) + 5 : px(best) - 5); label.setAttribute('text-anchor', left ? 'start' : 'end');
          };
          svg.onmouseleave = () => { cursor.setAttribute('visibility', 'hidden'); label.textContent = ''; };
        }
        function card(parent, title) {
          const figure = document.createElement('figure'), caption = document.createElement('figcaption');
          caption.textContent = title;
          const value = document.createElement('b'); caption.appendChild(value);
          const svg = node('svg', {role: 'img', 'aria-label': title});
          figure.append(caption, svg); parent.appendChild(figure);
          return {svg, value};
        }
        // rows: [{name, link, values: {axis: number}}]
        function drawParallel(svg, axes, rows) {
          svg.replaceChildren();
          if (axes.length < 2 || rows.length < 2) { svg.remove(); return; }
          const W = Math.max(svg.parentNode.clientWidth || 900, axes.length * 120), H = 300, T = 34, B = 16, L = 60;
          svg.setAttribute('viewBox', `0 0 ${W} ${H}`); svg.style.width = W + 'px';
          const px = i => L + i * (W - 2 * L) / (axes.length - 1);
          const scales = axes.map(axis => {
            const values = rows.map(r => r.values[axis]).filter(v => typeof v === 'number');
            const low = Math.min(...values), high = Math.max(...values);
            return {low, high, y: v => high > low ? H - B - (v - low) / (high - low) * (H - T - B) : (T + H - B) / 2};
          });
          rows.forEach((row, i) => {
            const link = node('a', {href: row.link}, svg);
            // What has no value for a column is led past it in dashes.
            let path = '', gap = '', last = null;
            axes.forEach((axis, j) => {
              const v = row.values[axis];
              if (typeof v !== 'number') return;
              const at = `${px(j).toFixed(1)},${scales[j].y(v).toFixed(1)}`;
              if (last && last.j === j - 1) path += `L${at}`;
              else { if (last) gap += `M${last.at}L${at}`; path += `M${at}h0`; }
              last = {j, at};
            });
            const stroke = rows.length <= 10 ? color(i) : 'var(--mark)';
            if (gap) node('path', {d: gap, class: 'gap', stroke}, link);
            const line = node('path', {d: path, class: 'strand', stroke}, link);
            node('title', {}, line, row.name + '\n' + axes.map(a => `${a} ${row.values[a] === undefined ? '–' : short(row.values[a])}`).join('\n'));
          });
          axes.forEach((axis, j) => {
            node('line', {x1: px(j), x2: px(j), y1: T, y2: H - B, class: 'rail'}, svg);
            node('text', {x: px(j), y: 13, class: 'axis head', 'text-anchor': 'middle'}, svg, axis.length > 20 ? axis.slice(0, 19) + '…' : axis);
            node('text', {x: px(j), y: T - 6, class: 'axis', 'text-anchor': 'middle'}, svg, short(scales[j].high));
            node('text', {x: px(j), y: H - 3, class: 'axis', 'text-anchor': 'middle'}, svg, short(scales[j].low));
          });
        }
        const data = JSON.parse(document.getElementById('data')?.textContent || '{}');
        const options = {axis: 'step', log: false};
        let redraw = () => {};
        for (const control of document.querySelectorAll('[data-option]'))
          control.addEventListener('change', () => {
            options[control.dataset.option] = control.type === 'checkbox' ? control.checked : control.value; redraw();
          });

        // A run: curves that grow.
        if (data.run) {
          const place = document.getElementById('curves'), system = document.getElementById('system'), state = document.getElementById('state');
          const curves = new Map();
          function show(key) {
            let c = curves.get(key);
            if (!c) {
              c = {points: [], ...card(key.startsWith('system/') ? system : place, key)};
              curves.set(key, c);
              if (key.startsWith('system/')) system.previousElementSibling.hidden = false;
            }
            return c;
          }
          let waiting = false;
          const changed = new Set();
          redraw = () => { for (const key of curves.keys()) changed.add(key); later(); };
          function later() {
            if (waiting) return;
            waiting = true;
            requestAnimationFrame(() => {
              waiting = false;
              for (const key of changed) {
                const c = curves.get(key), last = c.points[c.points.length - 1];
                c.value.textContent = last ? short(last[2]) : '';
                drawChart(c.svg, [{name: key, color: color(0), points: c.points}], options);
              }
              changed.clear();
              document.documentElement.dataset.curves = curves.size;
            });
          }
          let source, seen = 0;
          function listen() {
            source = new EventSource(`/api/v1/runs/${data.run}/events`);
            source.addEventListener('snapshot', e => {
              const said = JSON.parse(e.data); seen = 0;
              for (const key in said.metrics) { show(key).points = said.metrics[key]; changed.add(key); }
              tell(said.status); later();
            });
            source.addEventListener('metrics', e => {
              const number = +e.lastEventId;
              // A gap: this page was too slow for the stream and begins again with a snapshot.
              if (seen && number > seen + 1) { source.close(); listen(); return; }
              seen = number;
              for (const m of JSON.parse(e.data).metrics) { show(m.key).points.push([m.step, m.time, m.value]); changed.add(m.key); }
              later();
            });
            source.addEventListener('status', e => { seen = +e.lastEventId; tell(JSON.parse(e.data).status); });
            source.addEventListener('end', () => source.close());
          }
          function tell(status) { state.textContent = status.toLowerCase(); state.className = 'state ' + status.toLowerCase(); }
          listen();
          const form = document.getElementById('note');
          form.addEventListener('submit', async event => {
            event.preventDefault();
            const answer = await fetch(`/api/v1/runs/${data.run}/note`, {method: 'PUT', headers: {'Content-Type': 'application/json'},
              body: JSON.stringify({text: form.elements.text.value})});
            form.querySelector('output').textContent = answer.ok ? 'kept' : 'not kept: ' + answer.status;
          });
        }

        // Several runs: overlaid curves.
        if (data.curves) {
          const place = document.getElementById('curves');
          const cards = data.curves.map(c => ({...c, ...card(place, c.key)}));
          redraw = () => { for (const c of cards) drawChart(c.svg, c.series.map(s => ({name: data.names[s.run], color: color(s.run), points: s.points})), options); };
          redraw();
        }
        const parallel = document.getElementById('parallel');
        if (parallel && data.rows) drawParallel(parallel, data.axes, data.rows);

        // Files are looked at as text or pictures, whatever they say they are.
        let meant = '';
        try { meant = decodeURIComponent(location.hash.slice(1)); } catch { /* no name of a file */ }
        for (const look of document.querySelectorAll('details[data-look]')) {
          const show = async () => {
            if (!look.open || look.children.length > 1) return;
            const isImage = look.dataset.look === 'image', place = document.createElement(isImage ? 'img' : 'pre');
            look.append(place);
            if (isImage) { place.alt = look.dataset.name; place.src = look.dataset.link; return; }
            const answer = await fetch(look.dataset.link).catch(() => null);
            place.textContent = answer?.ok ? await answer.text() : 'It cannot be read.';
          };
          look.addEventListener('toggle', show);
          if (look.id === meant) { look.open = true; look.scrollIntoView(); }
          show();
        }

        for (const table of document.querySelectorAll('table.sorts')) {
          table.tHead.addEventListener('click', event => {
            const head = event.target.closest('th');
            if (!head || !head.textContent) return;
            const at = [...head.parentNode.children].indexOf(head), down = head.dataset.down !== 'yes';
            for (const other of head.parentNode.children) delete other.dataset.down;
            head.dataset.down = down ? 'yes' : 'no';
            const key = row => { const cell = row.children[at], number = parseFloat(cell.dataset.value ?? cell.textContent); return isNaN(number) ? cell.textContent : number; };
            const rows = [...table.tBodies[0].rows].sort((a, b) => { const u = key(a), v = key(b);
              const order = typeof u === 'number' && typeof v === 'number' ? u - v : typeof u === 'number' ? -1 : typeof v === 'number' ? 1 : u.localeCompare(v);
              return down && typeof u === typeof v ? -order : order; });
            table.tBodies[0].append(...rows);
          });
        }
        """#
}
