import { Clipboard } from '@jupyterlab/apputils';
import * as React from 'react';
import type { Log } from '../model/rest';
import { Press, Problem, Section, useAsked } from './parts';
import type { PanelProps } from './panelBody';

/** What the builder of the notebook's environment did. */
export function LogSection({ environment, trans }: PanelProps): React.JSX.Element {
  const log = useAsked(() => environment.api.post<Log>('log', environment.subject()));
  const [copied, setCopied] = React.useState(false);
  const text = log.value ? textOf(log.value) : '';
  return (
    <Section
      title={trans.__('Log')}
      onOpen={() => {
        setCopied(false);
        log.ask();
      }}
    >
      {log.failure && <Problem failure={log.failure} trans={trans} />}
      {log.value && !text && (
        <p className="jp-TorchOverlay-hint">{trans.__('Nothing was built yet.')}</p>
      )}
      {text && (
        <>
          <pre
            className="jp-TorchOverlay-log"
            tabIndex={0}
            aria-label={trans.__('Log of the build')}
          >
            {text}
          </pre>
          <div className="jp-TorchOverlay-buttons">
            <Press
              onClick={() => {
                Clipboard.copyToSystem(text);
                setCopied(true);
              }}
            >
              {trans.__('Copy')}
            </Press>
            <Press onClick={log.ask}>{trans.__('Refresh')}</Press>
            <span role="status" className="jp-TorchOverlay-hint">
              {copied && trans.__('Copied')}
            </span>
          </div>
        </>
      )}
    </Section>
  );
}

function textOf(log: Log): string {
  const steps = log.steps.map(step => `${(step.phase ?? '').padEnd(8)} ${step.message}`);
  return [...steps, ...(log.output ? ['', log.output] : [])].join('\n').trim();
}
